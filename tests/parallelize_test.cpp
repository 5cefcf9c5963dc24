// Which collectives come out of the placement rules, for the layouts whose cost is known from the literature
// (Shoeybi et al. 2019, arXiv:1909.08053), and what is said of meshes that do not fit.
#include "core/passes/parallelize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/passes/step_plan.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

constexpr std::int64_t kLayers = 3, kSamples = 8, kSeq = 16;

GptStep llama_job() {
  GptStep job;
  job.model.layers = kLayers;
  job.model.embed = 32;
  job.model.heads = 4;
  job.model.kv_heads = 2;
  job.model.mlp = 64;
  job.model.vocab = 512;
  job.model.seq = kSeq;
  job.model = complete_gpt(job.model);
  job.step.global_batch = kSamples;
  return job;
}

StepPlan plan_for(const GptStep& job, int data, int tensor) {
  return compile_step(job, {{{"data", data}, {"tensor", tensor}}}, 1);
}

bool communicates(const Node& node) {
  return node.op->communicates;
}

// The communication of one program.
struct Collective {
  std::string op, mesh_axis, value;
  Dims dims;  // global, of the first tensor
  std::size_t num_tensors = 1;
  bool is_backward = false;
};

std::string describe(const std::vector<Collective>& collectives) {
  std::string text;
  for (const Collective& c : collectives)
    text +=
        concat(c.op, "<", c.mesh_axis, "> ", c.num_tensors, " x ", to_string(c.dims), " '", c.value, "'\n");
  return text;
}

// Gradient nodes are called "d.…" and come after the loss.
std::vector<Collective> collectives_of(const StepPlan& plan, std::string_view program) {
  const Graph& graph = plan.programs[plan.index_of(program)].graph;
  std::vector<Collective> found;
  for (const Node& node : graph.nodes()) {
    if (!communicates(node)) continue;
    const Value& value = graph.value(node.inputs[0]);
    found.push_back({node.op->name, to_string(node.mesh_axes), node.name, value.global_dims,
                     node.inputs.size(), value.name.starts_with("d.")});
  }
  return found;
}

template <class Predicate>
std::vector<Collective> those(const std::vector<Collective>& all, const Predicate& predicate) {
  std::vector<Collective> found;
  std::copy_if(all.begin(), all.end(), std::back_inserter(found), predicate);
  return found;
}

const Dims kResidual = {{"batch", kSamples}, {"seq", kSeq}, {"embed", 32}};
const Dims kOneAToken = {{"batch", kSamples}, {"seq", kSeq}};

TEST(Parallelize, ForwardOfATensorParallelLayerIsTwoAllReduces) {
  const auto all = collectives_of(plan_for(llama_job(), 1, 2), kMicroBatch);
  const auto forward = those(all, [](const Collective& c) { return !c.is_backward && c.dims == kResidual; });
  EXPECT_EQ(forward.size(), 2 * kLayers + 1) << describe(all);  // one for the embedding
  for (const Collective& c : forward) EXPECT_EQ(c.op, "all_reduce") << c.value;
}

TEST(Parallelize, BackwardOfATensorParallelLayerIsTwoAllReduces) {
  const auto all = collectives_of(plan_for(llama_job(), 1, 2), kMicroBatch);
  const auto backward = those(all, [](const Collective& c) { return c.is_backward; });
  EXPECT_EQ(backward.size(), 2 * kLayers + 1) << describe(all);  // one for the output projection
  for (const Collective& c : backward) {
    EXPECT_EQ(c.op, "all_reduce") << c.value;
    EXPECT_EQ(c.dims, kResidual) << c.value;
  }
}

TEST(Parallelize, VocabularyParallelLossIsThreeNumbersAToken) {
  const auto all = collectives_of(plan_for(llama_job(), 1, 2), kMicroBatch);
  const auto loss = those(all, [](const Collective& c) { return c.dims == kOneAToken; });
  EXPECT_EQ(loss.size(), 3u) << describe(all);
  for (const Collective& c : loss) EXPECT_EQ(c.op, "all_reduce") << c.value;
  EXPECT_EQ(all.size(), 4 * kLayers + 2 + 3) << "and nothing else:\n" << describe(all);
}

TEST(Parallelize, TensorParallelUpdateReducesOnlyTheGradientNorm) {
  const auto all = collectives_of(plan_for(llama_job(), 1, 2), kUpdate);
  ASSERT_EQ(all.size(), 1u) << describe(all);
  EXPECT_EQ(all[0].op, "all_reduce");
  EXPECT_EQ(all[0].dims, Dims{});
}

TEST(Parallelize, DataParallelMicroBatchDoesNotCommunicate) {
  EXPECT_EQ(describe(collectives_of(plan_for(llama_job(), 2, 1), kMicroBatch)), "");
}

// Reducing a gradient would cost more than gathering the few tokens that it comes from, but it is put off to the update.
TEST(Parallelize, AGradientLargerThanTheTokensIsNotReducedInTheMicroBatch) {
  GptStep job = llama_job();
  job.model.seq = 1;
  job.model.embed = 512;
  job.step.global_batch = 2;
  EXPECT_EQ(describe(collectives_of(plan_for(job, 2, 1), kMicroBatch)), "");
}

TEST(Parallelize, DataParallelUpdateIsOneBucketAndTheLoss) {
  const StepPlan plan = plan_for(llama_job(), 2, 1);
  const auto all = collectives_of(plan, kUpdate);
  ASSERT_EQ(all.size(), 2u) << describe(all);
  for (const Collective& c : all) EXPECT_EQ(c.op, "all_reduce");
  const auto scalars = those(all, [](const Collective& c) { return c.dims.empty(); });
  ASSERT_EQ(scalars.size(), 1u) << describe(all);
  EXPECT_EQ(scalars[0].num_tensors, 1u);
  std::size_t num_parameters = 0;
  for (const Value& value : plan.programs[plan.index_of(kMicroBatch)].graph.values())
    num_parameters += value.role == Role::kParameter;
  const auto buckets = those(all, [](const Collective& c) { return !c.dims.empty(); });
  EXPECT_EQ(buckets.at(0).num_tensors, num_parameters) << describe(all);
}

// Each tensor rank reduces its shards over data; the norm's square is then a sum over the tensor ranks.
TEST(Parallelize, BothAxesTogetherAddNothing) {
  const StepPlan plan = plan_for(llama_job(), 2, 2);
  EXPECT_EQ(collectives_of(plan, kMicroBatch).size(), 4 * kLayers + 2 + 3)
      << describe(collectives_of(plan, kMicroBatch));
  EXPECT_EQ(collectives_of(plan, kUpdate).size(), 3u) << describe(collectives_of(plan, kUpdate));
}

TEST(Parallelize, OneRankDoesNotCommunicate) {
  for (const Program& program : plan_for(llama_job(), 1, 1).programs)
    for (const Node& node : program.graph.nodes()) EXPECT_FALSE(node.op->needs_group) << node.name;
}

TEST(Parallelize, KeyValueHeadsThatDoNotDivideAreReplicated) {
  const StepPlan plan = plan_for(llama_job(), 1, 4);  // kv_heads=2
  for (const Value& value : plan.programs[plan.index_of(kMicroBatch)].graph.values())
    if (value.role == Role::kParameter && value.desc.has("kv_heads")) {
      EXPECT_TRUE(value.placement[1].is_replicated()) << value.name;
    }
}

std::string message_for(const GptStep& job, int data, int tensor) {
  try {
    plan_for(job, data, tensor);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(Parallelize, HeadsThatDoNotDivideAreAnErrorWithTheNearestSizes) {
  const std::string message = message_for(llama_job(), 1, 3);
  EXPECT_THAT(message, testing::HasSubstr("heads=4"));
  EXPECT_THAT(message, testing::HasSubstr("tensor=3"));
  EXPECT_THAT(message, testing::HasSubstr("tensor=2 | tensor=4"));
}

TEST(Parallelize, ABatchThatDoesNotDivideIsAnErrorWithTheNearestSizes) {
  GptStep job = llama_job();
  job.step.global_batch = 6;
  const std::string message = message_for(job, 4, 1);
  EXPECT_THAT(message, testing::HasSubstr("6 samples"));
  EXPECT_THAT(message, testing::HasSubstr("data=4"));
  EXPECT_THAT(message, testing::HasSubstr("4 or 8"));
}

// The same from the pass itself, for graphs that come from elsewhere.
TEST(Parallelize, AnInputThatDoesNotDivideNamesAxisAndNearestSizes) {
  Graph graph;
  graph.mark_output(graph.input("tokens", {{{"batch", 6}, {"seq", 3}}, DType::kI32}));
  try {
    parallelize(graph, {{{"data", 4}}}, model_rules(), {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    EXPECT_THAT(error.what(), testing::HasSubstr("batch=6"));
    EXPECT_THAT(error.what(), testing::HasSubstr("data=4"));
    EXPECT_THAT(error.what(), testing::HasSubstr("data=3 | data=2 | data=6"));
  }
}

}  // namespace
}  // namespace takt
