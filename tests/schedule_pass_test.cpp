// What a schedule must keep: the bits of the blocking order, wherever inside its window a collective really runs; the
// order of every stream; the memory. Shown on random graphs.
#include "core/passes/schedule.h"

#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/exec/mesh_groups.h"
#include "core/graph/rewriter.h"
#include "core/graph/started.h"
#include "tests/random_graph_run.h"

namespace takt {
namespace {

using random_graph::CompileOptions;
using random_graph::kMicroBatches;
using random_graph::random_step;
using random_graph::RandomStep;

constexpr std::size_t kUnlimited = std::size_t{1} << 40;
constexpr std::size_t kBucketBytes = 1024;

Mesh mesh_of(int data, int tensor) {
  return {{{"data", data, 1}, {"tensor", tensor}}};
}
std::vector<Mesh> meshes() {
  return {mesh_of(2, 1), mesh_of(1, 2), mesh_of(2, 2)};
}

// ---- Any moment of a window is as good as the others ----

// A program whose collectives run later in their windows, with all values where they were: at their done, or at a random
// node before it. Streams stay queues.
class Delay {
 public:
  Delay(const StepPlan& plan, std::optional<std::uint64_t> seed) : plan_(plan), seed_(seed) {}

  StepPlan run() && {
    StepPlan late = plan_;
    for (std::size_t p = 0; p < plan_.programs.size(); ++p) delay(plan_.programs[p].graph, late, p);
    return late;
  }

 private:
  void delay(const Graph& graph, StepPlan& late, std::size_t p) {
    const ProgramMemory& memory = plan_.arena.programs[p];
    const std::vector<int> ends = ends_of(graph);
    std::vector<std::vector<int>> starting(graph.nodes().size());  // by the node before which they run
    std::map<int, int> last;                                       // by stream
    for (int n = 0; n < static_cast<int>(graph.nodes().size()); ++n) {
      if (!is_started(graph.node({n}))) continue;
      int& at = last[graph.node({n}).stream];
      const int end = ends[static_cast<std::size_t>(n)];
      at = std::max(at, n + 1);
      at = seed_ ? at + static_cast<int>(random(static_cast<std::uint64_t>(end - at + 1))) : end;
      starting[static_cast<std::size_t>(at)].push_back(n);
    }
    ProgramMemory moved{.value_offsets = {}, .scratch_offsets = {}, .num_bytes = memory.num_bytes};
    Rewriter rewriter(graph);
    const auto take = [&](int n) {
      rewriter.copy(graph.node({n}));
      moved.scratch_offsets.push_back(memory.scratch_offsets[static_cast<std::size_t>(n)]);
    };
    for (int n = 0; n < static_cast<int>(graph.nodes().size()); ++n) {
      for (const int start : starting[static_cast<std::size_t>(n)]) take(start);
      if (!is_started(graph.node({n}))) take(n);
    }
    moved.value_offsets.resize(rewriter.graph().values().size());
    for (std::size_t v = 0; v < graph.values().size(); ++v)
      moved.value_offsets[static_cast<std::size_t>(rewriter.at({static_cast<int>(v)}).index)] =
          memory.value_offsets[v];
    late.programs[p].graph = std::move(rewriter).finish();
    late.arena.programs[p] = std::move(moved);
  }

  std::uint64_t random(std::uint64_t bound) {
    return RandomStream(*seed_, "delays").below(num_drawn_++, bound);
  }

  const StepPlan& plan_;
  std::optional<std::uint64_t> seed_;
  std::uint64_t num_drawn_ = 0;
};

// What every rank has after a step: all outputs of the last program and all that persists, as bytes.
using Bits = std::vector<std::vector<std::byte>>;

Bits bits_of(CpuExecutor& executor, std::size_t program) {
  Bits bits;
  const StepPlan& plan = executor.plan();
  const auto keep = [&](std::string_view name) {
    bits.emplace_back(plan.locate(name, program).desc.num_bytes());
    executor.read(name, bits.back());
  };
  for (const PersistentValue& value : plan.table.values())
    if (value.role != Role::kInput) keep(value.name);
  const Graph& graph = plan.programs[program].graph;
  for (std::size_t o = 0; o < graph.outputs().size(); ++o) {
    const std::span<const std::byte> output = std::as_bytes(executor.output(program, o));
    bits.emplace_back(output.begin(), output.end());
  }
  return bits;
}

std::vector<Bits> run(const RandomStep& step, const StepPlan& plan, bool joins_update) {
  std::vector<Bits> bits(static_cast<std::size_t>(plan.mesh.num_ranks()));
  run_ranks(plan.mesh.num_ranks(), [&](Communicator& world) {
    CpuExecutor executor(plan, world.rank(), MeshGroups(plan, world));
    executor.run(Action{Action::Kind::kClearAccumulators});
    for (int m = 0; m < kMicroBatches; ++m) {
      Arrays arrays;
      for (const Value& value : step.micro_batch.values())
        if (value.role == Role::kInput || value.role == Role::kParameter)
          arrays[value.name] = random_graph::random_array(step, value, m);
      random_graph::load(executor, 0, arrays);
      const bool is_last = m + 1 == kMicroBatches;
      executor.run(Action{.program = is_last && joins_update ? 1 : 0});
    }
    if (!joins_update) executor.run(Action{.program = 1});
    bits[static_cast<std::size_t>(world.rank())] = bits_of(executor, 1);
  });
  return bits;
}

class SchedulePass : public testing::TestWithParam<std::uint64_t> {
 protected:
  // Calls body(step, mesh) for some seeds.
  template <class Body>
  void for_each_case(const Body& body) const {
    for (std::uint64_t seed = GetParam(); seed < GetParam() + 4; ++seed)
      for (const Mesh& mesh : meshes()) {
        SCOPED_TRACE(concat("seed ", seed, " on ", to_string(mesh)));
        body(random_step(seed), mesh);
        if (HasFailure()) return;
      }
  }
};

TEST_P(SchedulePass, ChangesNoBitWhereverInItsWindowACollectiveRuns) {
  for_each_case([](const RandomStep& step, const Mesh& mesh) {
    const std::vector<Bits> blocking = run(step, compile(step, mesh, kBucketBytes), false);
    for (const std::size_t extra_bytes : {std::size_t{0}, std::size_t{4096}, kUnlimited}) {
      const StepPlan plan = compile(step, mesh, kBucketBytes, {.extra_bytes = extra_bytes});
      EXPECT_EQ(run(step, plan, false), blocking) << "as early as possible, " << extra_bytes << " bytes";
      EXPECT_EQ(run(step, Delay(plan, std::nullopt).run(), false), blocking) << "as late as possible";
      EXPECT_EQ(run(step, Delay(plan, step.seed).run(), false), blocking) << "at random";
    }
  });
}

// The outputs of the joined program are the micro-batch's, then the update's.
TEST_P(SchedulePass, AJoinedUpdateChangesNoBit) {
  for_each_case([](const RandomStep& step, const Mesh& mesh) {
    std::vector<Bits> apart = run(step, compile(step, mesh, kBucketBytes), false);
    for (const std::size_t extra_bytes : {std::size_t{0}, kUnlimited}) {
      const StepPlan plan =
          compile(step, mesh, kBucketBytes, {.extra_bytes = extra_bytes, .joins_update = true});
      for (const StepPlan& order : {plan, Delay(plan, std::nullopt).run(), Delay(plan, step.seed).run()}) {
        std::vector<Bits> together = run(step, order, true);
        const std::size_t num_first = step.micro_batch.outputs().size();
        for (Bits& rank : together) {
          const auto outputs =
              rank.end() - static_cast<std::ptrdiff_t>(num_first + step.update.outputs().size());
          rank.erase(outputs, outputs + static_cast<std::ptrdiff_t>(num_first));
        }
        EXPECT_EQ(together, apart);
      }
    }
  });
}

// ---- Order and memory ----

void expect_pairs(const Graph& graph) {
  const std::vector<int> ends = ends_of(graph);
  int num_started = 0, num_done = 0;
  for (std::size_t n = 0; n < ends.size(); ++n) {
    const Node& node = graph.nodes()[n];
    EXPECT_EQ(node.op->communicates, is_started(node)) << node.name;
    num_started += is_started(node);
    num_done += node.op->awaits;
    if (is_started(node)) {
      EXPECT_GT(ends[n], static_cast<int>(n)) << node.name;
    }
  }
  EXPECT_EQ(num_started, num_done);
}

// Starts on one stream are done in their order, and come in the order of the blocking program.
void expect_queues(const Graph& graph, const Graph& blocking) {
  const std::vector<int> ends = ends_of(graph);
  std::map<int, int> last_end;
  std::map<std::string, std::vector<std::string>> found, wanted;  // by mesh axes
  for (std::size_t n = 0; n < ends.size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (!is_started(node)) continue;
    EXPECT_LT(last_end[node.stream], ends[n]) << node.name;
    last_end[node.stream] = ends[n];
    found[to_string(node.mesh_axes)].push_back(node.op->name + node.name);
  }
  for (const Node& node : blocking.nodes())
    if (node.op->communicates) wanted[to_string(node.mesh_axes)].push_back(node.op->name + node.name);
  if (found == wanted) return;
  for (auto* names : {&found, &wanted})  // sums into accumulators, and what serves only them, come earlier
    for (auto& [axes, all] : *names) std::sort(all.begin(), all.end());
  EXPECT_EQ(found, wanted);
}

TEST_P(SchedulePass, KeepsOrderAndMemory) {
  for_each_case([](const RandomStep& step, const Mesh& mesh) {
    for (const bool joins_update : {false, true}) {
      const StepPlan blocking =
          compile(step, mesh, kBucketBytes, {.extra_bytes = {}, .joins_update = joins_update});
      for (const std::size_t extra_bytes : {std::size_t{0}, std::size_t{512}, std::size_t{4096}}) {
        const StepPlan plan =
            compile(step, mesh, kBucketBytes, {.extra_bytes = extra_bytes, .joins_update = joins_update});
        for (std::size_t p = 0; p < plan.programs.size(); ++p) {
          expect_pairs(plan.programs[p].graph);
          expect_queues(plan.programs[p].graph, blocking.programs[p].graph);
          EXPECT_LE(plan.arena.programs[p].num_bytes, blocking.arena.programs[p].num_bytes + extra_bytes);
        }
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulePass, testing::Range<std::uint64_t>(200, 216, 4));

}  // namespace
}  // namespace takt
