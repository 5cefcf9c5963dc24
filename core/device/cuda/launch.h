// launch: the one way a kernel is started, the same text for nvcc and for g++ with the emulated device.
//
//   launch(add_rows<float>, dim3(blocks), dim3(256), shared_bytes, stream, x, y, num_rows);
//
// Arguments are converted to the kernel's own parameter types, so that nothing of the wrong size passes through void**.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "core/device/cuda/error.h"

// Dynamic shared memory of a kernel, as a pointer: TAKT_DYNAMIC_SHARED(float, tile);
#if defined(TAKT_CUDA_EMULATED)
#define TAKT_DYNAMIC_SHARED(type, name) \
  type* name = reinterpret_cast<type*>(::takt::emulated::dynamic_shared())
#else
#define TAKT_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(16) unsigned char takt_dynamic_shared_[]; \
  type* name = reinterpret_cast<type*>(takt_dynamic_shared_)
#endif

namespace takt::cuda {

// Queues the kernel. Throws kBug (or kMemory) with the CUDA error if the launch is refused. More than 48 KiB of dynamic
// shared memory must have been allowed before, in prepare: see allow_dynamic_shared.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "wrong number of kernel arguments");
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel parameters are copied bytewise");
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
#if defined(TAKT_CUDA_EMULATED)
  ::takt::emulated::bind(kernel);  // tells the emulated device how to call this kernel; from a forced include
#endif
  [&](Parameters... parameters) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&parameters))..., nullptr};
    TAKT_CUDA(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), pointers));
  }(static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  TAKT_CUDA(cudaGetLastError());
}

// Lets launches of the kernel have this much dynamic shared memory; needed above 48 KiB. Called in prepare, with the
// device current.
template <class... Parameters>
void allow_dynamic_shared(void (*kernel)(Parameters...), std::size_t shared_bytes) {
  TAKT_CUDA(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)));
}

}  // namespace takt::cuda
