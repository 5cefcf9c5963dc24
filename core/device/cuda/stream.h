// CudaStream: a queue of GPU work. Never the default stream, which waits for all others.
#pragma once

#include <cuda_runtime_api.h>

#include "core/base/owned.h"
#include "core/device/cuda/error.h"

namespace takt {

// Of the device that is current when it is made. Blocks are handed to the multiprocessors by priority.
enum class StreamPriority { kNormal, kHigh };

void destroy_stream(cudaStream_t stream) noexcept;

class CudaStream {
 public:
  explicit CudaStream(StreamPriority priority = StreamPriority::kNormal);

  cudaStream_t get() const { return stream_.get(); }
  // Waits on the host for all that is queued; never inside a step. Throws what the work met.
  void synchronize() const;
  // Whether all that is queued is done; asks without waiting.
  bool is_idle() const;

 private:
  Owned<cudaStream_t, destroy_stream> stream_;
};

}  // namespace takt
