// How many ranks share a host decides how many threads each has, threads decide the scratch of kernels, and
// that a rank's memory; so the number is looked for from above, compiling each time. Fewer ranks a host never
// need more of it.
#include "launch/compile_for_host.h"

#include <algorithm>

#include "launch/cpu_threads.h"
#include "launch/plan_text.h"

namespace takt {
namespace {

std::uint64_t ranks_that_fit(const StepPlan& plan, std::uint64_t memory_bytes) {
  return memory_bytes / std::max<std::uint64_t>(1, plan.arena.num_bytes());
}

// The largest number of ranks that fits; 1 where not even one does.
int most_ranks(StepCompiler& compiler, const Mesh& mesh, int threads, const HostLimits& host) {
  int ranks = std::clamp(host.num_cores / std::max(1, threads), 1, mesh.num_ranks());
  while (ranks > 1) {
    const std::uint64_t fit =
        ranks_that_fit(compiler.candidate(mesh, cpu_threads(threads, ranks)), host.memory_bytes);
    if (fit >= static_cast<std::uint64_t>(ranks)) return ranks;
    ranks = static_cast<int>(std::clamp<std::uint64_t>(fit, 1, static_cast<std::uint64_t>(ranks) - 1));
  }
  return 1;
}

}  // namespace

HostLimits limits_of_this_host() {
  return {.memory_bytes = host_memory_bytes(), .num_cores = cpu_threads(0, 1)};
}

HostedStep compile_for_host(StepCompiler& compiler, const Mesh& mesh, int threads,
                            std::optional<int> ranks_on_host, const HostLimits& host) {
  const int ranks = ranks_on_host ? *ranks_on_host : most_ranks(compiler, mesh, threads, host);
  return {compiler.compile(mesh, cpu_threads(threads, ranks)), ranks};
}

}  // namespace takt
