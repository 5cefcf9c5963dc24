// What a schedule must keep: the bits of the blocking order, wherever inside its window a collective really runs; the
// order of every stream; the memory. Shown on random graphs and on training steps.
#include "core/passes/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/exec/mesh_groups.h"
#include "core/graph/rewriter.h"
#include "core/graph/started.h"
#include "tests/gpt_step.h"
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
    const MeshGroups groups(plan, world);
    CpuExecutor executor(plan, world.rank(), groups);
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

// ---- Training steps ----

GptStep joined_step(Shard shard) {
  GptStep job{
      .model = {.layers = 3, .embed = 32, .heads = 4, .kv_heads = 2, .mlp = 96, .vocab = 61, .seq = 32},
      .step = {.global_batch = 8, .shard = shard, .bucket_bytes = 20'000, .overlap = {.joins_update = true}}};
  return job;
}

const Graph& last_micro_batch(const StepPlan& plan) {
  return plan.programs[plan.index_of(kLastMicroBatch)].graph;
}

int last_of_backward(const Graph& graph) {
  int last = -1;
  for (int n = 0; n < static_cast<int>(graph.nodes().size()); ++n)
    if (graph.node({n}).tag.phase == Phase::kBackward && !graph.node({n}).op->defers_reduction) last = n;
  return last;
}

// Does the node reduce a gradient over the data ranks?
bool reduces_gradient(const Graph& graph, const Node& node) {
  if (!node.op->communicates || to_string(node.mesh_axes) != "data") return false;
  const NodeId producer = graph.value(node.inputs[0]).producer;
  return producer.index >= 0 && graph.node(producer).op->defers_reduction &&
         graph.value(node.inputs[0]).desc.num_elements() > 1;
}

TEST(JoinedStep, ReducesGradientsWhileTheBackwardPassRuns) {
  for (const Shard sharded : {Shard::kNone, Shard::kOptimizer}) {
    const char* shard = sharded == Shard::kNone ? "none" : "optimizer";
    const StepPlan plan = compile_step(joined_step(sharded), mesh_of(4, 1), 1);
    const Graph& graph = last_micro_batch(plan);
    const std::vector<int> ends = ends_of(graph);
    const int backward_ends = last_of_backward(graph);
    int num_early = 0, num_late = 0;
    for (std::size_t n = 0; n < ends.size(); ++n) {
      if (!reduces_gradient(graph, graph.nodes()[n])) continue;
      ++(static_cast<int>(n) < backward_ends ? num_early : num_late);
      EXPECT_GT(ends[n], backward_ends) << shard << ": nobody needs " << graph.nodes()[n].name << " earlier";
    }
    EXPECT_GT(num_early, 2) << shard;
    EXPECT_GT(num_early, num_late) << shard << "\n" << to_string(graph);
  }
}

// A bucket's members lie side by side; its accumulators are the ones, in the order, of the programs apart.
TEST(JoinedStep, HasTheBucketsOfTheUpdate) {
  const StepPlan plan = compile_step(joined_step(Shard::kNone), mesh_of(4, 1), 1);
  const auto buckets = [&](std::string_view program) {
    std::vector<std::string> names;
    for (const Node& node : plan.programs[plan.index_of(program)].graph.nodes())
      if (node.op->communicates && node.inputs.size() > 1) names.push_back(node.name);
    return names;
  };
  EXPECT_GT(buckets(kLastMicroBatch).size(), 2u);
  EXPECT_EQ(buckets(kLastMicroBatch).size(), buckets(kUpdate).size());
}

TEST(JoinedStep, NeedsTheMemoryOfItsLargerPart) {
  const auto temporary = [](const StepPlan& plan, std::string_view program) {
    return plan.arena.programs[plan.index_of(program)].num_bytes;
  };
  const StepPlan plan = compile_step(joined_step(Shard::kNone), mesh_of(4, 1), 1);
  EXPECT_LE(temporary(plan, kLastMicroBatch),
            std::max(temporary(plan, kMicroBatch), temporary(plan, kUpdate)) + 4096);
}

TEST(JoinedStep, RunsOnceBehindTheOtherMicroBatches) {
  GptStep job = joined_step(Shard::kNone);
  job.step.micro_batch = 1;
  const StepPlan plan = compile_step(job, mesh_of(2, 1), 1);
  std::vector<std::string> programs;
  for (const Action& action : plan.step)
    if (action.kind == Action::Kind::kRun)
      programs.push_back(plan.programs[static_cast<std::size_t>(action.program)].name);
  EXPECT_EQ(programs,
            (std::vector<std::string>{"micro_batch", "micro_batch", "micro_batch", "last_micro_batch"}));
}

// ---- What is refused ----

TensorDesc row(std::int64_t extent) {
  return {{{"embed", extent}}, DType::kF32};
}

// x is reduced on stream 1; what comes between the start and its done is up to the test.
class Started {
 public:
  Started() : x(graph.persistent("x", row(4), Role::kAccumulator)) {}

  ValueId start(ValueId input) {
    Node node{
        .op = &all_reduce_op(), .name = "reduced", .inputs = {input}, .mesh_axes = {"data"}, .stream = 1};
    node.attrs.set("op", std::string("sum"));
    const Value output{.name = "reduced", .desc = graph.value(input).desc};
    return graph.append_placed(std::move(node), {output}).front();
  }
  ValueId finish(ValueId started) { return graph.append_one(done_op(), {started}, {}, "reduced"); }

  Graph graph;
  ValueId x;
};

std::string refusal(const Graph& graph) {
  try {
    verify(graph, "schedule");
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(VerifyStarts, AcceptsAPair) {
  Started s;
  s.graph.mark_output(s.finish(s.start(s.x)));
  EXPECT_EQ(refusal(s.graph), "accepted");
}

TEST(VerifyStarts, RefusesAStartWithoutDone) {
  Started s;
  s.start(s.x);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("never done"));
}

TEST(VerifyStarts, RefusesTwoDones) {
  Started s;
  const ValueId started = s.start(s.x);
  s.finish(started);
  s.finish(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("done twice"));
}

TEST(VerifyStarts, RefusesADoneOfSomethingElse) {
  Started s;
  s.finish(scale(s.graph, s.x, 2.0, "y"));
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("does not read what one started collective writes"));
}

TEST(VerifyStarts, RefusesAReaderThatDoesNotWait) {
  Started s;
  const ValueId started = s.start(s.x);
  scale(s.graph, started, 2.0, "early");
  s.finish(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("'early' reads 'reduced' beside the done"));
}

TEST(VerifyStarts, RefusesAnOutputThatDoesNotWait) {
  Started s;
  const ValueId started = s.start(s.x);
  s.finish(started);
  s.graph.mark_output(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("output 'reduced' is read before"));
}

TEST(VerifyStarts, RefusesToOverwriteWhatAStartedCollectiveReads) {
  Started s;
  const ValueId started = s.start(s.x);
  accumulate(s.graph, s.x, s.graph.input("more", row(4)), "overwriting");
  s.finish(started);
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("'overwriting' overwrites 'x'"));
}

TEST(VerifyStarts, RefusesComputationOnAStreamThatCommunicates) {
  Started s;
  const Value output{.name = "y", .desc = row(4)};
  Node node{.op = &scale_op(), .name = "astray", .inputs = {s.x}, .attrs = {{"factor", 2.0}}, .stream = 1};
  s.graph.append_placed(std::move(node), {output});
  EXPECT_THAT(refusal(s.graph), testing::HasSubstr("'astray' (scale) computes on stream 1"));
}

// A plan with a collective in flight while "between" is computed and "kept" waits for its reader; then one offset is
// moved onto another.
class MovedOffset : public testing::Test {
 protected:
  MovedOffset() {
    Started s;
    const ValueId a = s.graph.input("a", row(100)), b = s.graph.input("b", row(100));
    const ValueId x = scale(s.graph, a, 3.0, "x.scaled");
    const ValueId kept = scale(s.graph, b, 5.0, "kept");
    const ValueId started = s.start(x);
    const ValueId between = scale(s.graph, b, 7.0, "between");
    const ValueId reduced = s.finish(started);
    // x is read again, so that it is not overwritten.
    s.graph.mark_output(add(s.graph, {reduced, between, kept, x}, "sum"));
    plan_.mesh = mesh_of(2, 1);
    add_program(plan_, "program", s.graph);
    finish(plan_);
    ids_ = {{"x", x}, {"kept", kept}, {"started", started}, {"between", between}};
  }

  std::size_t& offset(const std::string& name) {
    return plan_.arena.programs[0].value_offsets[static_cast<std::size_t>(ids_.at(name).index)];
  }
  std::string refusal() const {
    try {
      verify(plan_);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  }

  StepPlan plan_;
  std::map<std::string, ValueId> ids_;
};

TEST_F(MovedOffset, IsAcceptedWhereItIs) {
  EXPECT_EQ(refusal(), "accepted");
}

TEST_F(MovedOffset, RefusesANodeThatWritesWhereACollectiveWrites) {
  offset("between") = offset("started");
  EXPECT_THAT(refusal(), testing::HasSubstr("'reduced' has been overwritten"));
}

TEST_F(MovedOffset, RefusesANodeThatWritesPartOfWhatACollectiveReads) {
  offset("between") = offset("x") + kArenaAlignment;
  EXPECT_THAT(refusal(), testing::HasSubstr("'x.scaled' has been overwritten"));
}

TEST_F(MovedOffset, RefusesACollectiveThatWritesOverWhatWaits) {
  offset("kept") = offset("started");
  EXPECT_THAT(refusal(), testing::HasSubstr("overwritten"));
}

INSTANTIATE_TEST_SUITE_P(Seeds, SchedulePass, testing::Range<std::uint64_t>(200, 216, 4));

}  // namespace
}  // namespace takt
