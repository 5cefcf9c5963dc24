// train.numerics = "invariant": every mesh computes the bits of one rank, in losses, norms and weights.
#include "tests/mesh_training.h"

namespace takt {
namespace {

Mesh mesh_of(int replica, int data, int tensor) {
  return {{{"replica", replica, 1}, {"data", data, 1}, {"tensor", tensor}}};
}

StepConfig invariant_step(const std::string& optimizer, Precision precision) {
  StepConfig step = step_of(optimizer);
  step.numerics = Numerics::kInvariant;
  step.precision = precision;
  step.layout.sequence = true;
  return step;
}

// Models that eight tensor ranks divide where four heads allow: nothing is padded over them.
GptConfig with_even_axes(GptConfig model) {
  model.vocab = 64;
  model.mlp = 40;
  return model;
}

std::vector<Case> invariant_cases() {
  const MlpConfig mlp{.inputs = 6, .outputs = 7, .layers = 2, .embed = 16, .mlp = 24};
  const auto gpt = [](const std::string& name, const GptConfig& config, StepConfig step) {
    return gpt_case(name, with_even_axes(config), step);
  };
  return {
      gpt("LlamaF32", llama(2, 40, false), invariant_step("adamw", Precision::kF32)),
      gpt("LlamaTiedBF16", llama(1, 40, true), invariant_step("adamw", Precision::kBF16)),
      gpt("Gpt2F32", gpt2(), invariant_step("sgd", Precision::kF32)),
      gpt("Gpt2BF16", gpt2(), invariant_step("adamw", Precision::kBF16)),
      {"Mlp", [mlp] { return std::make_unique<MlpSubject>(mlp); }, invariant_step("adamw", Precision::kF32)}};
}

class Invariance : public testing::TestWithParam<Case> {
 protected:
  Invariance()
      : subject_(GetParam().make()),
        step_(GetParam().step),
        alone_(train(*subject_, step_, mesh_of(1, 1, 1))) {}
  void expect_as_alone(const StepConfig& step, const Mesh& mesh, int num_threads = 1) const {
    SCOPED_TRACE(concat("shard=", shard_names()[static_cast<std::size_t>(step.layout.shard)], " ",
                        to_string(mesh), " threads=", num_threads));
    expect_same_bits(train(*subject_, step, mesh, num_threads), alone_);
  }
  std::unique_ptr<Subject> subject_;
  StepConfig step_;
  Training alone_;
};

TEST_P(Invariance, DataRanksComputeTheBitsOfOne) {
  for (const int data : {2, 4, 8}) expect_as_alone(step_, mesh_of(1, data, 1));
  expect_as_alone(step_, mesh_of(1, 1, 1), 2);
}

// The tree over six micro-batches is one over three ranks of trees over two.
TEST_P(Invariance, ThreeDataRanksComputeTheBitsOfOne) {
  StepConfig step = step_;
  step.global_batch = 6;
  const Training alone = train(*subject_, step, mesh_of(1, 1, 1));
  expect_same_bits(train(*subject_, step, mesh_of(1, 3, 1)), alone);
}

TEST_P(Invariance, SharedStateChangesNoBit) {
  StepConfig step = step_;
  for (const Shard shard : {Shard::kOptimizer, Shard::kGradients, Shard::kParameters})
    for (const auto& [replica, data] : {std::pair(1, 2), {1, 4}, {2, 2}, {4, 2}}) {
      step.layout.shard = shard;
      expect_as_alone(step, mesh_of(replica, data, 1));
    }
}

TEST_P(Invariance, TensorRanksComputeTheBitsOfOne) {
  StepConfig step = step_;
  for (const bool sequence : {true, false})
    for (const auto& [data, tensor] : {std::pair(1, 2), {1, 4}, {2, 2}}) {
      step.layout.sequence = sequence;
      expect_as_alone(step, mesh_of(1, data, tensor));
    }
  step.layout.sequence = true;
  for (const Shard shard : {Shard::kOptimizer, Shard::kGradients, Shard::kParameters})
    for (const auto& [replica, data, tensor] : {std::tuple(2, 2, 2), {1, 2, 4}}) {
      step.layout.shard = shard;
      expect_as_alone(step, mesh_of(replica, data, tensor));
    }
}

TEST_P(Invariance, AJoinedUpdateChangesNoBit) {
  StepConfig step = step_;
  step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  expect_as_alone(step, mesh_of(1, 1, 1));
  expect_as_alone(step, mesh_of(1, 2, 2));
  step.layout.shard = Shard::kGradients;
  expect_as_alone(step, mesh_of(1, 4, 1));
}

INSTANTIATE_TEST_SUITE_P(Models, Invariance, testing::ValuesIn(invariant_cases()),
                         [](const auto& test) { return test.param.name; });

// Pieces of one head, key heads that several ranks share, and micro-batches of two samples.
TEST(InvarianceOfEightRanks, ComputeTheBitsOfOne) {
  GptConfig model = with_even_axes(llama(2, 40, false));
  model.embed = 32;
  model.heads = 8;
  const GptSubject subject(model);
  StepConfig step = invariant_step("adamw", Precision::kBF16);
  step.micro_batch = 2;
  const Training alone = train(subject, step, mesh_of(1, 1, 1));
  for (const auto& [data, tensor] : {std::pair(1, 8), {2, 4}, {4, 2}})
    expect_same_bits(train(subject, step, mesh_of(1, data, tensor)), alone);
}

// What would sum in another order is refused, with what fits.
TEST(InvarianceIsRefused, WhereItDoesNotHold) {
  const auto message = [](const GptConfig& model, const StepConfig& step, const Mesh& mesh,
                          const RankDevice& device) -> std::string {
    const LanguageTask task(model);
    try {
      StepCompiler(task, step).candidate(mesh, device);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kConfig) << error.what();
      return error.what();
    }
    return "";
  };
  const auto expect_refused = [&](const std::string& words, const std::string& found) {
    EXPECT_NE(found.find(words), std::string::npos) << found;
  };
  const GptConfig even = with_even_axes(llama(4, 40, true));
  StepConfig step = invariant_step("adamw", Precision::kF32);
  EXPECT_EQ(message(even, step, mesh_of(1, 2, 2), 1), "");
  expect_refused("on GPUs", message(even, step, mesh_of(1, 1, 1), {DeviceKind::kCuda, 1}));
  expect_refused("vocab=61", message(llama(4, 40, true), step, mesh_of(1, 1, 2), 1));
  GptConfig six_heads = even;
  six_heads.embed = 24;
  six_heads.heads = six_heads.kv_heads = 6;
  six_heads.mlp = six_heads.vocab = 48;
  expect_refused("tensor=3", message(six_heads, step, mesh_of(1, 1, 3), 1));
  step.global_batch = 12;
  expect_refused("6 micro-batches of a rank", message(even, step, mesh_of(1, 2, 1), 1));
  step.micro_batch = 4;
  expect_refused("train.micro_batch", message(even, step, mesh_of(1, 2, 1), 1));
  step.micro_batch = 1;
  step.layout.shard = Shard::kGradients;
  expect_refused("3 data ranks of a group", message(even, step, mesh_of(1, 3, 1), 1));
}

}  // namespace
}  // namespace takt
