// Streams are non-blocking: they do not wait for the legacy default stream, which nobody here uses.
#include "core/device/cuda/stream.h"

namespace takt {
namespace {

cudaStream_t create_stream(StreamPriority priority) {
  int least = 0, greatest = 0;
  TAKT_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  cudaStream_t stream = nullptr;
  TAKT_CUDA(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking,
                                         priority == StreamPriority::kHigh ? greatest : least));
  return stream;
}

}  // namespace

CudaStream::CudaStream(StreamPriority priority) : CudaHandle(create_stream(priority)) {}

void CudaStream::synchronize() const {
  TAKT_CUDA(cudaStreamSynchronize(get()));
}

bool CudaStream::is_idle() const {
  return is_ready(cudaStreamQuery(get()), "cudaStreamQuery(stream)");
}

}  // namespace takt
