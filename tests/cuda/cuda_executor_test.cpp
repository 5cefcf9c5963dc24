// A model trained on GPUs is the model trained on CPUs: the same losses and weights, on any mesh.
#include "core/exec/cuda_executor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "collectives/local.h"
#include "core/base/rng.h"
#include "core/train/language_task.h"
#include "core/train/regression_task.h"
#include "core/train/trainer.h"
#include "tests/cuda/cuda_test.h"

namespace takt {
namespace {

constexpr std::int64_t kSteps = 10, kSeq = 12, kVocab = 37;

// Tokens that mostly follow from the one before.
class Chain final : public Dataset {
 public:
  std::int64_t num_samples() const override { return 40; }
  std::uint64_t content_hash() const override { return 3; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    for (const NamedBuffer& buffer : buffers) {
      auto* to = reinterpret_cast<std::int32_t*>(buffer.bytes.data());
      for (const std::int64_t sample : samples)
        for (std::int64_t i = 0; i < kSeq; ++i)
          *to++ = static_cast<std::int32_t>(
              ((sample + 1) * 5 + 7 * (i + (buffer.name == "targets" ? 1 : 0))) % kVocab);
    }
  }
};

class Waves final : public Dataset {
 public:
  std::int64_t num_samples() const override { return 40; }
  std::uint64_t content_hash() const override { return 4; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    for (const NamedBuffer& buffer : buffers) {
      auto* to = reinterpret_cast<float*>(buffer.bytes.data());
      const bool is_target = buffer.name == "targets";
      for (const std::int64_t sample : samples)
        for (std::int64_t i = 0; i < (is_target ? 7 : 6); ++i) {
          const double x = 0.1 * static_cast<double>(sample * 6 + i % 6);
          *to++ = static_cast<float>(is_target ? std::sin(x) * std::cos(3 * x) : std::sin(2 * x));
        }
    }
  }
};

struct Case {
  std::string name;
  std::function<std::unique_ptr<Task>()> make;
  std::function<std::unique_ptr<Dataset>()> data;
};
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

Case gpt(const std::string& name, const GptConfig& config) {
  return {name, [config] { return std::make_unique<LanguageTask>(config); },
          [] { return std::make_unique<Chain>(); }};
}

std::vector<Case> cases() {
  return {gpt("Llama",
              {.layers = 2, .embed = 16, .heads = 4, .kv_heads = 2, .mlp = 44, .vocab = kVocab, .seq = kSeq}),
          gpt("Gpt2", {.family = "gpt2",
                       .layers = 2,
                       .embed = 24,
                       .heads = 4,
                       .mlp = 40,
                       .vocab = kVocab,
                       .seq = kSeq,
                       .tied = true}),
          {"Mlp",
           [] {
             return std::make_unique<RegressionTask>(
                 MlpConfig{.layers = 2, .embed = 16, .mlp = 30},
                 RegressionTask::Arrays{.input_shape = {6}, .output_shape = {7}});
           },
           [] { return std::make_unique<Waves>(); }}};
}

struct Training {
  std::vector<double> losses, grad_norms;
  std::map<std::string, std::vector<float>> weights;  // of the first rank
};

StepConfig step_of() {
  StepConfig step{.global_batch = 8, .micro_batch = 2, .steps = kSteps, .grad_clip = 0.8};
  step.optimizer.lr = 0.01;
  step.optimizer.eps = 1e-5;  // gradients that are rounding noise shall not become whole steps
  return step;
}

Training train(const Case& test, const StepConfig& step, int data, int tensor, DeviceKind device) {
  const Mesh mesh{{{"data", data, 1}, {"tensor", tensor}}};
  const std::unique_ptr<Task> task = test.make();
  const std::unique_ptr<Dataset> dataset = test.data();
  const StepPlan plan = compile_step(*task, step, mesh, {device, 1});
  const DataOrder order(step.seed, dataset->num_samples());
  Training run;
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    Trainer trainer(*task, step, plan, world, {.gpu = world.rank()});
    trainer.initialize_weights();
    Training mine;
    for (std::int64_t i = 0; i < kSteps; ++i) {
      const StepResult result = trainer.step(*dataset, order);
      mine.losses.push_back(result.loss);
      mine.grad_norms.push_back(result.grad_norm);
    }
    mine.losses.push_back(trainer.evaluate(*dataset, 5).loss);
    for (const TensorShard& shard : trainer.shards()) {
      std::int64_t num_elements = 1;
      for (const std::int64_t extent : shard.buffer_shape) num_elements *= extent;
      std::vector<float>& weights = mine.weights[shard.name];
      weights.resize(static_cast<std::size_t>(num_elements));
      shard.memory.read(0, std::as_writable_bytes(std::span(weights)));
    }
    if (world.rank() == 0) run = std::move(mine);
  });
  return run;
}

void expect_close(const Training& found, const Training& wanted, double tolerance) {
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

class CudaTraining : public CudaTest, public testing::WithParamInterface<Case> {};

TEST_P(CudaTraining, OneGpuIsOneCpu) {
  expect_close(train(GetParam(), step_of(), 1, 1, DeviceKind::kCuda),
               train(GetParam(), step_of(), 1, 1, DeviceKind::kCpu), 2e-5);
}

TEST_P(CudaTraining, AnyMeshOfGpusIsThatOfCpus) {
  for (const auto& [data, tensor] : {std::pair(2, 1), {1, 2}, {2, 2}})
    for (const Shard shard : {Shard::kNone, Shard::kOptimizer})
      for (const bool joins : {false, true}) {
        SCOPED_TRACE(concat("data=", data, " tensor=", tensor, shard == Shard::kNone ? "" : " sharded",
                            joins ? " joined" : ""));
        StepConfig step = step_of();
        step.shard = shard;
        step.bucket_bytes = 4000;
        if (joins) step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
        expect_close(train(GetParam(), step, data, tensor, DeviceKind::kCuda),
                     train(GetParam(), step, data, tensor, DeviceKind::kCpu), 2e-5);
        if (HasFailure()) return;
      }
}

TEST_P(CudaTraining, MixedPrecisionIsThatOfCpus) {
  StepConfig step = step_of();
  step.precision = Precision::kBF16;
  const Training wanted = train(GetParam(), step, 1, 1, DeviceKind::kCpu);
  const Training found = train(GetParam(), step, 1, 1, DeviceKind::kCuda);
  EXPECT_NEAR(found.losses.front(), wanted.losses.front(), 5e-3 * wanted.losses.front());
  EXPECT_NEAR(found.losses.back(), wanted.losses.back(), 3e-2 * wanted.losses.back());
}

INSTANTIATE_TEST_SUITE_P(Models, CudaTraining, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
