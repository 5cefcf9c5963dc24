// mesh.layout = "auto": which layouts there are, which fit, and which is the fastest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/train/compile_step.h"
#include "launch/job.h"

namespace takt {

struct RankedLayout {
  Mesh mesh;
  double step_s = 0;             // as estimated_step_s has it
  std::uint64_t rank_bytes = 0;  // of a rank's arena
  std::string problem = {};      // why it cannot be taken; empty: it can
};

// All ways to spread `num_ranks` ranks over data, context and tensor that the model and the batch allow, with what else
// `config` says: those that fit into a rank's `memory_bytes` first, the fastest in front; ties to what is simpler.
std::vector<RankedLayout> rank_layouts(StepCompiler& compiler, const MeshConfig& config, int num_ranks,
                                       const RankDevice& device, std::uint64_t memory_bytes);

// The mesh of a job: what its layout says, or the best one. `table`, where it is given, gets the layouts to choose from.
// Throws as resolve_mesh and best_layout.
Mesh choose_mesh(StepCompiler& compiler, const Job& job, int num_ranks, const RankDevice& device,
                 std::uint64_t memory_bytes, std::vector<RankedLayout>* table = nullptr);

// The first. Throws kMemory where none fits, with the arithmetic of each, or kConfig where the batch allows none.
Mesh best_layout(const std::vector<RankedLayout>& layouts);

// A line a layout.
std::string layouts_text(const std::vector<RankedLayout>& layouts);

}  // namespace takt
