// The GPUs that this process sees, asked of CUDA and NVML.
#pragma once

#include <string>
#include <vector>

#include "core/device/topology.h"

namespace takt {

struct CudaDevices {
  std::vector<GpuInfo> gpus = {};  // in the order of their ordinals, without bridges
  std::string problem = {};        // why there are none, and the fix, on one line; empty: there are
};

// Leaves the current device of the thread as it was, and starts no context on any. Throws only for what a GPU that is
// there refuses to tell.
CudaDevices list_cuda_devices();

}  // namespace takt
