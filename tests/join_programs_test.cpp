// The last micro-batch and the update as one program: what that is for, and what it must not change. That it computes the
// same bits is shown in schedule_pass_test.cpp and mesh_equality_test.cpp.
#include "core/passes/join_programs.h"

#include <gtest/gtest.h>

#include "core/graph/started.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

Mesh mesh_of(int data, int tensor) {
  return {{{"data", data, 1}, {"tensor", tensor}}};
}

GptStep joined_step(Shard shard) {
  GptStep job{
      .model = {.layers = 3, .embed = 32, .heads = 4, .kv_heads = 2, .mlp = 96, .vocab = 61, .seq = 32},
      .step = {.global_batch = 8,
               .layout = {.shard = shard},
               .bucket_bytes = 20'000,
               .overlap = {.joins_update = true}}};
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

}  // namespace
}  // namespace takt
