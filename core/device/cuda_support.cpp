// What is compiled in is known here.
#include "core/device/cuda_support.h"

#ifdef TAKT_HAVE_CUDA
#include "core/device/cuda/devices.h"
#include "core/device/cuda/versions.h"
#endif

namespace takt {

#ifdef TAKT_HAVE_CUDA

bool is_cuda_built_in() {
  return true;
}

CudaSupport find_cuda() {
  CudaDevices devices = list_cuda_devices();
  return {.gpus = std::move(devices.gpus), .problem = std::move(devices.problem)};
}

std::vector<LibraryVersion> versions_of_cuda() {
  return cuda_library_versions();
}

#else

bool is_cuda_built_in() {
  return false;
}

CudaSupport find_cuda() {
  return {.problem = "this build has no CUDA; configure with -DTAKT_CUDA=ON and build again"};
}

std::vector<LibraryVersion> versions_of_cuda() {
  return {};
}

#endif

}  // namespace takt
