// What this build and this machine have of CUDA, for callers that are compiled with or without it.
#pragma once

#include <string>
#include <vector>

#include "core/device/topology.h"

namespace takt {

bool is_cuda_built_in();

struct CudaSupport {
  std::vector<GpuInfo> gpus = {};  // that this process sees
  std::string problem = {};        // why no GPU can be used, and the fix, on one line; empty: there are some
};
CudaSupport find_cuda();

struct LibraryVersion {
  std::string library = {};
  std::string compiled = {};  // with these headers; empty: none are needed
  std::string found = {};     // at run time
};
// None where CUDA is not built in.
std::vector<LibraryVersion> versions_of_cuda();

}  // namespace takt
