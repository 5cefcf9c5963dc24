// The compiled step, as it fits the ranks that share a host. `plan` and `train` both ask here.
#pragma once

#include <cstdint>
#include <optional>

#include "core/train/compile_step.h"

namespace takt {

struct HostedStep {
  StepPlan plan;
  int ranks_on_host = 1;
};

// What a host offers. Ranks share it evenly.
struct HostLimits {
  std::uint64_t memory_bytes = 0;
  int num_cores = 1;
};
HostLimits limits_of_this_host();

// Compiles for `ranks_on_host` ranks a host, which decides a rank's threads and memory; without it for as
// many as fit: as many as have cores, fewer where memory is short, at least one. Whether they fit is for
// require_memory to say. Throws kConfig.
// `threads` are those that the job asks for a rank; 0: the cores of the host over its ranks.
HostedStep compile_for_host(StepCompiler& compiler, const Mesh& mesh, int threads,
                            std::optional<int> ranks_on_host, const HostLimits& host);

}  // namespace takt
