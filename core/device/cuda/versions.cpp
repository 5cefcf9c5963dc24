// Each library packs its version in its own way.
#include "core/device/cuda/versions.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <fmt/format.h>
#include <nccl.h>

namespace takt {
namespace {

std::string cuda_text(int version) {  // 13000 is 13.0
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// cuBLASLt 130100, NCCL 22809 and cuDNN 91900 are major, minor and patch.
std::string packed_text(std::size_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string found_runtime() {
  int version = 0;
  return cudaRuntimeGetVersion(&version) == cudaSuccess ? cuda_text(version) : "does not answer";
}

std::string found_nccl() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess ? packed_text(static_cast<std::size_t>(version))
                                                 : "does not answer";
}

std::string found_driver() {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess || version == 0) return "none";
  return fmt::format("for CUDA {}", cuda_text(version));
}

}  // namespace

std::vector<LibraryVersion> cuda_library_versions() {
  return {
      {"CUDA", cuda_text(CUDART_VERSION), found_runtime()},
      {"cuBLASLt", packed_text(CUBLAS_VERSION), packed_text(cublasLtGetVersion())},
      {"cuDNN", packed_text(CUDNN_VERSION), packed_text(cudnnGetVersion())},
      {"NCCL", packed_text(NCCL_VERSION_CODE), found_nccl()},
      {"driver", "", found_driver()},
  };
}

}  // namespace takt
