// The handles of cuBLASLt and cuDNN belong to the device that was current when they were made.
#include "core/device/cuda/context.h"

#include <cublasLt.h>
#include <cudnn.h>

namespace takt {
namespace {

// Runs before any member that needs the device.
CudaOptions on_device(const CudaOptions& options) {
  TAKT_CUDA(cudaSetDevice(options.device));
  TAKT_REQUIRE(options.num_streams >= 1, "cuda: a context needs at least one stream, got ",
               options.num_streams);
  return options;
}

std::vector<CudaStream> make_streams(int num_streams) {
  std::vector<CudaStream> streams;
  for (int i = 0; i < num_streams; ++i)
    streams.emplace_back(i == 0 ? StreamPriority::kNormal : StreamPriority::kHigh);
  return streams;
}

}  // namespace

void destroy_cublaslt(cublasLtContext* handle) noexcept {
  cublasLtDestroy(handle);
}

void destroy_cudnn(cudnnContext* handle) noexcept {
  cudnnDestroy(handle);
}

CudaContext::CudaContext(const CudaOptions& options)
    : options_(on_device(options)), streams_(make_streams(options.num_streams)) {
  TAKT_CUDA(cudaGetDeviceProperties(&properties_, options_.device));
}

void CudaContext::make_current() const {
  TAKT_CUDA(cudaSetDevice(options_.device));
}

const CudaStream& CudaContext::stream(int number) const {
  TAKT_ASSERT(number >= 0 && number < num_streams(), "cuda: stream ", number, " of ", num_streams());
  return streams_[static_cast<std::size_t>(number)];
}

void CudaContext::synchronize() const {
  for (const CudaStream& stream : streams_) stream.synchronize();
  copy_stream_.synchronize();
}

cublasLtContext* CudaContext::cublaslt() {
  if (!cublaslt_) {
    cublasLtHandle_t handle = nullptr;
    TAKT_CUBLAS(cublasLtCreate(&handle));
    cublaslt_ = Owned<cublasLtContext*, destroy_cublaslt>(handle);
  }
  return cublaslt_.get();
}

cudnnContext* CudaContext::cudnn() {
  if (!cudnn_) {
    cudnnHandle_t handle = nullptr;
    TAKT_CUDNN(cudnnCreate(&handle));
    cudnn_ = Owned<cudnnContext*, destroy_cudnn>(handle);
    TAKT_CUDNN(cudnnSetStream(handle, compute_stream().get()));
  }
  return cudnn_.get();
}

}  // namespace takt
