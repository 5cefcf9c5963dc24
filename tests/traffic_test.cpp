// What one more layer sends, in calls and bytes a micro-batch, is what the papers of each layout say.
#include <gtest/gtest.h>

#include "tests/gpt_step.h"

namespace takt {
namespace {

// Sums over a program's traffic along some mesh axes.
struct Traffic {
  double calls = 0, bytes = 0;
};

constexpr std::int64_t kEmbed = 64, kMlp = 192, kSeq = 32, kSamples = 2;

Traffic traffic_of(std::int64_t layers, const StepConfig& step, const Mesh& mesh, std::string_view program,
                   std::string_view mesh_axes, std::string_view op) {
  GptStep job;
  job.model = {
      .layers = layers, .embed = kEmbed, .heads = 8, .kv_heads = 8, .mlp = kMlp, .vocab = 128, .seq = kSeq};
  job.step = step;
  job.step.global_batch = kSamples * mesh.data_ranks();
  job.step.micro_batch = kSamples;
  const StepPlan plan = compile_step(job, mesh, 1);
  Traffic sum;
  for (const ProgramCost::Traffic& traffic : cost_of(plan.programs[plan.index_of(program)]).traffic)
    if (traffic.mesh_axes == mesh_axes && traffic.op == op)
      sum = {static_cast<double>(traffic.num_calls), static_cast<double>(traffic.num_bytes)};
  return sum;
}

// Bytes are those handed over by a rank: its own piece of a gather, the whole of a scatter.
Traffic of_a_layer(const StepConfig& step, const Mesh& mesh, std::string_view mesh_axes, std::string_view op,
                   std::string_view program = kMicroBatch) {
  const Traffic more = traffic_of(4, step, mesh, program, mesh_axes, op),
                less = traffic_of(3, step, mesh, program, mesh_axes, op);
  return {more.calls - less.calls, more.bytes - less.bytes};
}

constexpr double kLayerBytes =
    4.0 * (4 * kEmbed * kEmbed + 3 * kEmbed * kMlp + 2 * kEmbed);  // of its weights
constexpr double kActivationBytes = 4.0 * kSamples * kSeq * kEmbed;

StepConfig shared(Shard shard, Recompute recompute = Recompute::kNone) {
  StepConfig step;
  step.layout.shard = shard;
  step.recompute = recompute;
  return step;
}

// Source: Rajbhandari et al. 2020, section 7.
TEST(Traffic, Zero3GathersTwiceAndScattersOnceALayer) {
  const Mesh mesh{{{"data", 4, 1}, {"tensor", 1}}};
  for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
    const Traffic gathers = of_a_layer(shared(Shard::kParameters, recompute), mesh, "data", "all_gather");
    EXPECT_EQ(gathers.calls, 2);
    EXPECT_EQ(gathers.bytes, 2 * kLayerBytes / 4);
    const Traffic scatters =
        of_a_layer(shared(Shard::kParameters, recompute), mesh, "data", "reduce_scatter");
    EXPECT_EQ(scatters.calls, 1);
    EXPECT_EQ(scatters.bytes, kLayerBytes);
  }
}

TEST(Traffic, Zero2ScattersOnceALayerAndGathersInTheRefresh) {
  const Mesh mesh{{{"data", 4, 1}, {"tensor", 1}}};
  EXPECT_EQ(of_a_layer(shared(Shard::kGradients), mesh, "data", "reduce_scatter").calls, 1);
  EXPECT_EQ(of_a_layer(shared(Shard::kGradients), mesh, "data", "all_gather").calls, 0);
  EXPECT_EQ(of_a_layer(shared(Shard::kGradients), mesh, "data", "all_gather", kRefresh).bytes,
            kLayerBytes / 4);
}

TEST(Traffic, ReplicasReduceWhatTheyHoldOnceAStep) {
  const Mesh mesh{{{"replica", 2, 1}, {"data", 2, 1}, {"tensor", 1}}};
  EXPECT_EQ(of_a_layer(shared(Shard::kParameters), mesh, "replica", "all_reduce").bytes, 0);
  EXPECT_EQ(of_a_layer(shared(Shard::kParameters), mesh, "replica", "all_reduce", kUpdate).bytes,
            kLayerBytes / 2);
}

// Source: Shoeybi et al. 2019, figure 4: two all-reduces forward, two backward.
TEST(Traffic, TensorParallelismReducesFourTimesALayer) {
  const Traffic reduces = of_a_layer({}, {{{"data", 1, 1}, {"tensor", 4}}}, "tensor", "all_reduce");
  EXPECT_EQ(reduces.calls, 4);
  EXPECT_EQ(reduces.bytes, 4 * kActivationBytes);
}

// Source: Korthikanti et al. 2022, section 4.2.2: each all-reduce becomes a scatter and a gather.
TEST(Traffic, SequenceParallelismScattersAndGathersFourTimesALayer) {
  StepConfig step;
  step.layout.sequence = true;
  const Mesh mesh{{{"data", 1, 1}, {"tensor", 4}}};
  EXPECT_EQ(of_a_layer(step, mesh, "tensor", "all_reduce").calls, 0);
  const Traffic gathers = of_a_layer(step, mesh, "tensor", "all_gather"),
                scatters = of_a_layer(step, mesh, "tensor", "reduce_scatter");
  EXPECT_EQ(gathers.calls, 4);
  EXPECT_EQ(gathers.bytes, 4 * kActivationBytes / 4);
  EXPECT_EQ(scatters.calls, 4);
  EXPECT_EQ(scatters.bytes, 4 * kActivationBytes);
}

// Source: Jacobs et al. 2023, arXiv:2309.14509: queries, keys, values and results are exchanged, and their gradients.
TEST(Traffic, ContextExchangesTokensForHeadsEightTimesALayer) {
  const Traffic exchanges =
      of_a_layer({}, {{{"data", 1, 1}, {"context", 4}, {"tensor", 1}}}, "context", "all_to_all");
  EXPECT_EQ(exchanges.calls, 8);
  EXPECT_EQ(exchanges.bytes, 8 * kActivationBytes / 4);
}

}  // namespace
}  // namespace takt
