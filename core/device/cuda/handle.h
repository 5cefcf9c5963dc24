// CudaHandle: an object of the CUDA runtime behind a handle, owned. What streams and events are.
#pragma once

#include <cuda_runtime_api.h>

#include "core/base/owned.h"
#include "core/device/cuda/error.h"

namespace takt {

template <class Handle, cudaError_t (*Destroy)(Handle)>
class CudaHandle {
 public:
  Handle get() const { return handle_.get(); }

 protected:
  explicit CudaHandle(Handle handle) : handle_(handle) {}
  // What a query's answer says of the work: whether it is done. Throws what the work met.
  static bool is_ready(cudaError_t answer, const char* call) {
    if (answer == cudaErrorNotReady) return false;
    require_cuda(answer, call);
    return true;
  }

 private:
  // A destructor has nobody to tell, so the code is ignored; an error of the work is reported by who waits for it.
  static void release(Handle handle) noexcept { Destroy(handle); }

  Owned<Handle, release> handle_;
};

}  // namespace takt
