// StepPlan: the compiled step, as a value. It is the same for every rank; executors run it, `takt plan`
// prints it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"
#include "core/passes/memory_plan.h"
#include "core/passes/parallelize.h"

namespace takt {

struct Program {
  std::string name;  // "micro_batch", "update", "evaluate", …
  Graph graph;       // local shapes, explicit collectives
};

struct StepPlan {
  Mesh mesh;
  int num_threads = 1;  // a rank
  std::vector<Program> programs;
  ArenaPlan arena;  // arena.programs[i] belongs to programs[i]

  std::size_t index_of(std::string_view program) const;  // kBug if there is none
};

// What one rank does in one run of a program.
struct ProgramCost {
  double flops = 0;         // arithmetic of this rank
  double useful_flops = 0;  // of all ranks: matmul and attention once, on global shapes, without padding
  std::size_t num_nodes = 0;
  struct Traffic {
    std::string mesh_axis;
    std::string op;
    std::size_t num_calls = 0;
    std::size_t num_bytes = 0;  // handed to the collective by this rank
  };
  std::vector<Traffic> traffic;  // by mesh axis and op
};
ProgramCost cost_of(const Program& program);

}  // namespace takt
