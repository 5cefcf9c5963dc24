// On which device a rank computes.
#pragma once

#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "core/device/cuda_support.h"
#include "core/device/rank_device.h"

namespace takt {

// `wanted`: "cpu", "cuda" or "auto", which takes GPUs where there are some and this version can use them. Throws kConfig,
// with the reason, if it wants CUDA and there is none.
DeviceKind choose_backend(const std::string& wanted, const CudaSupport& cuda);

// Where a rank is among all.
struct RankPlace {
  Communicator& all;
  std::string host = {};  // its name
  int host_number = 0;    // the same for the ranks of one host
};

struct GpuChoice {
  GpuInfo gpu = {};       // this rank's
  int domain = 0;         // see fast_domains in core/device/topology.h
  bool is_bound = false;  // to a share of the processors nearest to the GPU
};

// One GPU a rank, in the order of the ranks of a host, and the processors beside it. Every rank calls it; all throw the
// same kConfig if two ranks would share a GPU. `environment` as in CommandContext: CUDA_VISIBLE_DEVICES is read.
GpuChoice choose_gpu(const CudaSupport& cuda, const std::vector<std::string>& environment,
                     const RankPlace& place);

}  // namespace takt
