// The plan is a contract: what executors count on is checked when it is made.
#include "core/passes/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/exec/cpu_executor.h"
#include "core/ops/builders.h"
#include "core/passes/conversion_path.h"
#include "core/passes/parallelize.h"

namespace takt {
namespace {

TensorDesc row(std::int64_t extent, DType dtype = DType::kF32) {
  return {{{"embed", extent}}, dtype};
}

Graph placed(const Graph& graph) {
  return parallelize(graph, {}, {}, {});
}

TEST(StepPlan, RefusesATypeThatAKernelDoesNotTake) {
  Graph graph;
  const ValueId x = graph.input("x", {{{"batch", 2}, {"embed", 4}}, DType::kBF16});
  graph.mark_output(softmax(graph, x, "y"));  // computes in f32 only
  StepPlan plan;
  add_program(plan, "program", placed(graph));
  try {
    finish(plan);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("softmax"), testing::HasSubstr("bf16")));
  }
}

TEST(StepPlan, RefusesProgramsThatDisagreeOnAPersistentValue) {
  const auto program = [](std::int64_t extent) {
    Graph graph;
    const ValueId sum = graph.persistent("sum", row(extent), Role::kAccumulator);
    accumulate(graph, sum, graph.input("x" + std::to_string(extent), row(extent)), "sum.accumulated");
    return placed(graph);
  };
  StepPlan plan;
  add_program(plan, "first", program(4));
  EXPECT_THROW(add_program(plan, "second", program(8)), Error);
}

TEST(StepPlan, RefusesABucketWhoseMembersLieApart) {
  Graph graph;
  std::vector<ValueId> members;
  for (const char* name : {"a", "b"}) members.push_back(graph.persistent(name, row(100), Role::kAccumulator));
  std::vector<Value> outputs;
  for (const ValueId id : members) outputs.push_back({.name = "reduced", .desc = graph.value(id).desc});
  Node node{.op = &all_reduce_op(), .name = "bucket", .inputs = members, .mesh_axes = {"data"}};
  node.attrs.set("op", std::string("sum"));
  for (const ValueId id : graph.append_placed(std::move(node), outputs)) graph.mark_output(id);
  StepPlan plan;
  add_program(plan, "update", std::move(graph));
  finish(plan);  // side by side, as they are planned
  for (const ValueId id : plan.programs[0].graph.nodes()[0].outputs)
    plan.arena.programs[0].value_offsets[static_cast<std::size_t>(id.index)] *= 2;
  EXPECT_THROW(verify(plan), Error);
}

TEST(StepPlan, InputsHaveASlotForTheNextMicroBatch) {
  Graph graph;
  graph.mark_output(scale(graph, graph.input("x", row(4)), 2.0, "y"));
  StepPlan plan;
  add_program(plan, "program", placed(graph));
  finish(plan);
  CpuExecutor executor(plan);
  const auto write = [&](float value, int micro_batch) {
    const std::vector<float> x(4, value);
    executor.write("x", std::as_bytes(std::span(x)), micro_batch);
  };
  write(1, 0);
  write(5, 1);  // does not touch what micro-batch 0 reads
  executor.run(Action{.program = 0, .micro_batch = 0});
  EXPECT_EQ(read_as<float>(executor, "y"), std::vector<float>(4, 2));
  executor.run(Action{.program = 0, .micro_batch = 1});
  EXPECT_EQ(read_as<float>(executor, "y"), std::vector<float>(4, 10));
}

TEST(StepPlan, ASnapshotHoldsWhatIsSaved) {
  Graph graph;
  const ValueId weight = graph.parameter("weight", row(4), {});
  const ValueId copy = graph.persistent("copy", row(4), Role::kDerived, "weight");
  assign(graph, copy, weight, "copy.assigned");
  StepPlan plan;
  add_program(plan, "refresh", placed(graph));
  finish(plan);
  CpuExecutor executor(plan);
  const std::vector<float> weights = {1, 2, 3, 4};
  executor.write("weight", std::as_bytes(std::span(weights)));
  executor.run(Action{.program = 0});
  EXPECT_EQ(read_as<float>(executor, "copy"), weights);
  const Snapshot snapshot = executor.snapshot();
  EXPECT_THAT(snapshot, testing::ElementsAre(testing::Key("weight")));
}

const Mesh kMesh{{{"data", 2, 1}, {"tensor", 4}}};
const TensorDesc kMatrix{{{"mlp", 64}, {"embed", 16}}, DType::kF32};
const AxisPlacement kWhole = AxisPlacement::replicated(), kSum = AxisPlacement::partial(),
                    kMlp = AxisPlacement::sharded("mlp"), kEmbed = AxisPlacement::sharded("embed");

TEST(ConversionPath, ShrinksBeforeItGrows) {
  const auto path = conversion_path({kSum, kMlp}, {kEmbed, kWhole}, kMatrix, kMesh);
  ASSERT_EQ(path.size(), 2u);
  EXPECT_TRUE(path[0].from.is_partial() && path[0].to.is_sharded());
  EXPECT_TRUE(path[1].from.is_sharded() && path[1].to.is_replicated());
}

TEST(ConversionPath, ReducesOverTheJointGroup) {
  const auto path = conversion_path({kSum, kSum}, {kWhole, kWhole}, kMatrix, kMesh);
  ASSERT_EQ(path.size(), 1u);
  EXPECT_EQ(path[0].mesh_axes.size(), 2u);
}

TEST(ConversionPath, PeelsTheInnermostCutFirst) {
  const auto path = conversion_path({kMlp, kMlp}, {kWhole, kWhole}, kMatrix, kMesh);
  ASSERT_EQ(path.size(), 2u);
  EXPECT_EQ(path[0].mesh_axes[0], 0) << "data cuts inside the pieces of tensor";
  // The outer cut can go only while the inner one is away.
  EXPECT_EQ(conversion_path({kMlp, kMlp}, {kMlp, kWhole}, kMatrix, kMesh).size(), 3u);
  EXPECT_EQ(conversion_path({kWhole, kMlp}, {kMlp, kMlp}, kMatrix, kMesh).size(), 1u);
}

// From anywhere to anywhere there is a way, on any order of cuts, and it ends where it should.
TEST(ConversionPath, AlwaysArrives) {
  const AxisPlacement all[] = {kWhole, kSum, kMlp, kEmbed};
  for (const int cut : {0, 1}) {
    const Mesh mesh{{{"data", 2, cut}, {"tensor", 4}, {"replica", 2, 1 - cut}}};
    for (int i = 0; i < 4 * 4 * 4 * 4 * 4 * 4; ++i) {
      int rest = i;
      Placement from(3), to(3);
      for (Placement* placement : {&from, &to})
        for (AxisPlacement& axis : *placement) {
          axis = all[rest % 4];
          rest /= 4;
        }
      const auto path = conversion_path(from, to, kMatrix, mesh);
      EXPECT_TRUE(path.empty() ? from == to : path.back().after == to)
          << to_string(from) << " to " << to_string(to);
      EXPECT_LE(path.size(), 9u) << to_string(from) << " to " << to_string(to);
    }
  }
}

}  // namespace
}  // namespace takt
