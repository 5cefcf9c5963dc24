// Streams are non-blocking: they do not wait for the legacy default stream, which nobody here uses.
#include "core/device/cuda/stream.h"

namespace takt {

// A destructor has nobody to tell, so the code is ignored; an error of the work is reported by who waits for it.
void destroy_stream(cudaStream_t stream) noexcept {
  cudaStreamDestroy(stream);
}

CudaStream::CudaStream(StreamPriority priority) {
  int least = 0, greatest = 0;
  TAKT_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  TAKT_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                         priority == StreamPriority::kHigh ? greatest : least));
  stream_ = Owned<cudaStream_t, destroy_stream>(stream);
}

void CudaStream::synchronize() const {
  TAKT_CUDA(cudaStreamSynchronize(get()));
}

bool CudaStream::is_idle() const {
  const cudaError_t code = cudaStreamQuery(get());
  if (code == cudaErrorNotReady) return false;
  require_cuda(code, "cudaStreamQuery(stream)");
  return true;
}

}  // namespace takt
