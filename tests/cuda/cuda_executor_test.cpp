// A model trained on GPUs is the model trained on CPUs: the same losses and weights, on any mesh.
#include "core/exec/cuda_executor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"

namespace takt {
namespace {

std::vector<SmallModel> models() {
  return {small_gpt(
              "Llama",
              {.layers = 2, .embed = 16, .heads = 4, .kv_heads = 2, .mlp = 44, .vocab = kVocab, .seq = kSeq}),
          small_gpt("Gpt2", {.family = "gpt2",
                             .layers = 2,
                             .embed = 24,
                             .heads = 4,
                             .mlp = 40,
                             .vocab = kVocab,
                             .seq = kSeq,
                             .tied = true}),
          small_mlp({.layers = 2, .embed = 16, .mlp = 30})};
}

SmallTraining training_of() {
  SmallTraining training{.step = {.global_batch = 8, .micro_batch = 2, .steps = 3, .grad_clip = 0.8},
                         .num_steps = 3};
  training.step.optimizer.lr = 0.01;
  training.step.optimizer.eps = 1e-5;  // gradients that are rounding noise shall not become whole steps
  return training;
}

Trained train(const SmallModel& model, const SmallTraining& training, DeviceKind device) {
  return SmallRun(model, training, device)();
}

void expect_close(const Trained& found, const Trained& wanted, double tolerance) {
  ASSERT_EQ(found.losses.size(), wanted.losses.size());
  for (std::size_t i = 0; i < wanted.losses.size(); ++i)
    EXPECT_NEAR(found.losses[i], wanted.losses[i], tolerance * std::abs(wanted.losses[i])) << "loss " << i;
  for (std::size_t i = 0; i < wanted.grad_norms.size(); ++i)
    EXPECT_NEAR(found.grad_norms[i], wanted.grad_norms[i], 10 * tolerance * std::abs(wanted.grad_norms[i]))
        << "gradient norm " << i;
  for (const auto& [name, weights] : wanted.weights)
    for (std::size_t i = 0; i < weights.size(); ++i)
      ASSERT_NEAR(found.weights.at(name).at(i), weights[i], 100 * tolerance) << name << "[" << i << "]";
}

class CudaTraining : public CudaTest, public testing::WithParamInterface<SmallModel> {};

TEST_P(CudaTraining, OneGpuIsOneCpu) {
  expect_close(train(GetParam(), training_of(), DeviceKind::kCuda),
               train(GetParam(), training_of(), DeviceKind::kCpu), 2e-5);
}

struct Layout {
  int data, tensor;
  Shard shard;
  bool joins;
};

// Each pair of choices once: all of them would cost twice as much.
constexpr Layout kLayouts[] = {{2, 1, Shard::kNone, false}, {2, 1, Shard::kOptimizer, true},
                               {1, 2, Shard::kNone, true},  {1, 2, Shard::kOptimizer, false},
                               {2, 2, Shard::kNone, false}, {2, 2, Shard::kOptimizer, true}};

TEST_P(CudaTraining, AnyMeshOfGpusIsThatOfCpus) {
  for (const Layout& layout : kLayouts) {
    SCOPED_TRACE(concat("data=", layout.data, " tensor=", layout.tensor,
                        layout.shard == Shard::kNone ? "" : " sharded", layout.joins ? " joined" : ""));
    SmallTraining training = training_of();
    training.data = layout.data;
    training.tensor = layout.tensor;
    training.step.layout.shard = layout.shard;
    training.step.bucket_bytes = 4000;
    if (layout.joins) training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
    expect_close(train(GetParam(), training, DeviceKind::kCuda),
                 train(GetParam(), training, DeviceKind::kCpu), 2e-5);
    if (HasFailure()) return;
  }
}

TEST_P(CudaTraining, MixedPrecisionIsThatOfCpus) {
  SmallTraining training = training_of();
  training.step.precision = Precision::kBF16;
  const Trained wanted = train(GetParam(), training, DeviceKind::kCpu);
  const Trained found = train(GetParam(), training, DeviceKind::kCuda);
  EXPECT_NEAR(found.losses.front(), wanted.losses.front(), 5e-3 * wanted.losses.front());
  EXPECT_NEAR(found.losses.back(), wanted.losses.back(), 3e-2 * wanted.losses.back());
}

INSTANTIATE_TEST_SUITE_P(Models, CudaTraining, testing::ValuesIn(models()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
