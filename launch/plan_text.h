// The printed form of a step plan, and the check that it fits.
#pragma once

#include <cstdint>
#include <string>

#include "core/passes/step_plan.h"
#include "core/train/compile_step.h"

namespace takt {

// Mesh, batch, memory by kind, and what each program does: nodes, FLOPs, messages. All numbers are one
// rank's. `ranks_on_host` is how many share a host.
std::string plan_text(const StepPlan& plan, const BatchPlan& batch, int ranks_on_host);
// The memory of one rank, a line a kind.
std::string memory_text(const StepPlan& plan);

// Memory of this host in bytes, or of the container it gives this process.
std::uint64_t host_memory_bytes();
// Is a rank's arena within its share of the host's `memory_bytes`?
bool fits_memory(const StepPlan& plan, int ranks_on_host, std::uint64_t memory_bytes);
// Throws kMemory with the itemised memory and what to change if it is not.
void require_memory(const StepPlan& plan, const BatchPlan& batch, int ranks_on_host,
                    std::uint64_t memory_bytes);

}  // namespace takt
