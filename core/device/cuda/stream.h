// CudaStream: a queue of GPU work. Never the default stream, which waits for all others.
#pragma once

#include "core/device/cuda/handle.h"

namespace takt {

// Of the device that is current when it is made. Blocks are handed to the multiprocessors by priority.
enum class StreamPriority { kNormal, kHigh };

class CudaStream : public CudaHandle<cudaStream_t, cudaStreamDestroy> {
 public:
  explicit CudaStream(StreamPriority priority = StreamPriority::kNormal);

  // Waits on the host for all that is queued; never inside a step. Throws what the work met.
  void synchronize() const;
  // Whether all that is queued is done; asks without waiting.
  bool is_idle() const;
};

}  // namespace takt
