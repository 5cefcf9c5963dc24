// StepPlan: the compiled step, as a value. It is the same for every rank; executors run it, `takt plan`
// prints it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"
#include "core/passes/memory_plan.h"
#include "core/passes/persistent_table.h"

namespace takt {

struct Program {
  std::string name;  // "micro_batch", "update", "evaluate", …
  Graph graph;       // local shapes, explicit collectives
};

// One thing that executors do, in the order of the list it stands in.
struct Action {
  enum class Kind {
    kRun,               // run a program on the inputs in a slot
    kClearAccumulators  // set all accumulators to zero
  };
  Kind kind = Kind::kRun;
  int program = 0;      // index into StepPlan::programs
  int micro_batch = 0;  // of the step; its inputs are in slot micro_batch % kInputSlots
};

// The whole contract between the compiler and those who run, price, save and show a step.
struct StepPlan {
  Mesh mesh = {};
  RankDevice device = {};  // that the kernels are chosen for
  PersistentTable table = {};
  std::vector<Program> programs = {};
  ArenaPlan arena = {};               // arena.programs[i] belongs to programs[i]
  std::vector<Action> start = {};     // once parameters and state are there: computes the derived values
  std::vector<Action> step = {};      // one optimizer step
  std::vector<Action> evaluate = {};  // one validation micro-batch

  std::size_t index_of(std::string_view program) const;  // kBug if there is none
  // The placed value behind a name: an input, a persistent value or an output, of program number `program` if that has
  // it, else of the first that does. Throws kBug if there is none.
  struct Location {
    TensorDesc desc;
    Dims global_dims;
    Placement placement;
    std::size_t offset = 0;       // in the arena; of slot 0
    std::size_t slot_stride = 0;  // inputs: bytes from one slot to the next
  };
  Location locate(std::string_view name, std::size_t program = 0) const;
};

// Appends a parallelized program to the plan and its persistent values to the table.
void add_program(StepPlan& plan, std::string_view name, Graph local);
// Plans the memory of all programs and verifies the plan. Nothing may be added afterwards.
void finish(StepPlan& plan);
// Plans the memory of all programs, whose blocks are packed already. What is to run must still be verified.
void lay_out(StepPlan& plan, std::span<const Lifetimes> lives);
// Checks what executors count on: every program is a valid graph and agrees with the table, actions name programs,
// members of a bucket lie side by side, nodes find in memory what was written for them (check_memory), and this build has
// a kernel for every node that takes its types. Throws kBug, or kConfig where a kernel is missing.
void verify(const StepPlan& plan);

// What one rank does in one run of a program.
struct ProgramCost {
  double flops = 0;         // arithmetic of this rank
  double useful_flops = 0;  // of all ranks: matmul and attention once, on global shapes, without padding
  std::size_t num_nodes = 0;
  std::size_t num_recomputed = 0;  // of these
  struct Traffic {
    std::string mesh_axes;
    std::string op;
    std::size_t num_calls = 0;
    std::size_t num_bytes = 0;  // handed to the collective by this rank
  };
  std::vector<Traffic> traffic;  // by mesh axis and op
};
ProgramCost cost_of(const Program& program);

}  // namespace takt
