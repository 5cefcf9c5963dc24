// Training one task on any mesh, with ranks as threads, and comparing what comes out.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include "collectives/local.h"
#include "core/base/rng.h"
#include "core/state/token_samples.h"
#include "core/train/language_task.h"
#include "core/train/regression_task.h"
#include "core/train/trainer.h"

namespace takt {

inline constexpr std::int64_t kSteps = 20, kSeq = 12, kVocab = 61;

inline GptConfig llama(std::int64_t kv_heads, std::int64_t mlp, bool tied) {
  GptConfig model;
  model.layers = 2;
  model.embed = 16;
  model.heads = 4;
  model.kv_heads = kv_heads;
  model.mlp = mlp;
  model.vocab = kVocab;
  model.seq = kSeq;
  model.tied = tied;
  return model;
}

inline GptConfig gpt2() {
  GptConfig model = llama(4, 44, true);
  model.family = "gpt2";
  model.embed = 24;
  return model;
}

// Twelve tokens pick two of four experts each. With a factor of 0.5 an expert has three slots: half of the picks or more are
// dropped.
inline GptConfig mixtral(double capacity_factor = 1.25) {
  GptConfig model = llama(2, 32, false);
  model.experts = 4;
  model.capacity_factor = capacity_factor;
  model.router_balance = 0.02;
  return model;
}

inline StepConfig step_of(const std::string& optimizer) {
  StepConfig step{.global_batch = 8, .micro_batch = 1, .steps = kSteps, .grad_clip = 0.8};
  step.optimizer.kind = optimizer;
  static const std::map<std::string, double> rates = {{"lamb", 0.08}, {"lion", 0.003}, {"sgd", 0.3}};
  const auto rate = rates.find(optimizer);
  step.optimizer.lr = rate == rates.end() ? 0.01 : rate->second;
  return step;
}

// Tokens that mostly follow from the one before, so that there is something to learn.
inline TokenSamples make_dataset(const std::string& name, std::int64_t num_tokens) {
  const std::string path =
      (std::filesystem::path(testing::TempDir()) / concat("mesh_equality.", getpid(), ".", name)).string();
  const RandomStream random(5, name);
  std::vector<std::int32_t> tokens = {1};
  while (static_cast<std::int64_t>(tokens.size()) < num_tokens) {
    const std::uint64_t i = 2 * tokens.size();
    tokens.push_back(random.below(i, 8) == 0 ? static_cast<std::int32_t>(random.below(i + 1, kVocab))
                                             : (tokens.back() * 7 + 3) % static_cast<std::int32_t>(kVocab));
  }
  write_llmc_bin(path, tokens, kVocab);
  const std::string paths[] = {path};
  TokenDataset dataset = TokenDataset::open(paths, kVocab);
  std::filesystem::remove(path);  // it stays mapped
  return {std::move(dataset), kSeq};
}

// A task with its data. Nine validation samples are no multiple of any batch.
struct Subject {
  virtual ~Subject() = default;
  virtual const Task& task() const = 0;
  virtual const Dataset& train() const = 0;
  virtual const Dataset& valid() const = 0;
};

struct GptSubject final : Subject {
  explicit GptSubject(const GptConfig& config) : gpt(config) {}
  const Task& task() const override { return gpt; }
  const Dataset& train() const override { return train_samples; }
  const Dataset& valid() const override { return valid_samples; }

  LanguageTask gpt;
  TokenSamples train_samples = make_dataset("train", 60 * kSeq + 1);
  TokenSamples valid_samples = make_dataset("valid", 9 * kSeq + 1);
};

// A function of vectors that is not linear, as an application would write its dataset.
class Waves final : public Dataset {
 public:
  Waves(std::int64_t num_samples, std::int64_t inputs, std::int64_t outputs, std::uint64_t seed)
      : num_samples_(num_samples), inputs_(inputs), outputs_(outputs), random_(seed, "waves") {}
  std::int64_t num_samples() const override { return num_samples_; }
  std::uint64_t content_hash() const override { return 7; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    for (const NamedBuffer& buffer : buffers) {
      auto* to = reinterpret_cast<float*>(buffer.bytes.data());
      const bool is_target = buffer.name == "targets";
      for (const std::int64_t sample : samples)
        for (std::int64_t i = 0; i < (is_target ? outputs_ : inputs_); ++i)
          *to++ = sample < 0 ? 0.0f : is_target ? target(sample, i) : input(sample, i);
    }
  }

 private:
  float input(std::int64_t sample, std::int64_t i) const {
    return random_.normal(static_cast<std::uint64_t>(sample * inputs_ + i));
  }
  float target(std::int64_t sample, std::int64_t i) const {
    return std::sin(input(sample, i % inputs_)) * input(sample, (i + 1) % inputs_);
  }
  std::int64_t num_samples_, inputs_, outputs_;
  RandomStream random_;
};

struct MlpSubject final : Subject {
  explicit MlpSubject(const MlpConfig& config)
      : mlp(config, {.input_shape = {config.inputs}, .output_shape = {config.outputs}}),
        train_waves(60, config.inputs, config.outputs, 1),
        valid_waves(9, config.inputs, config.outputs, 2) {}
  const Task& task() const override { return mlp; }
  const Dataset& train() const override { return train_waves; }
  const Dataset& valid() const override { return valid_waves; }

  RegressionTask mlp;
  Waves train_waves, valid_waves;
};

// What a run leaves behind: numbers of every step and whole weights.
struct Training {
  std::vector<double> losses, grad_norms;
  double valid_loss = 0, valid_loss_of_five = 0;
  std::map<std::string, std::vector<float>> weights;
};

// Copies the region that a shard holds into the whole tensor. Regions that are not `writes` are copies.
inline void collect(const TensorShard& shard, std::vector<float>& whole) {
  std::int64_t num_local = 1;
  for (const std::int64_t extent : shard.buffer_shape) num_local *= extent;
  for (std::int64_t i = 0; i < num_local; ++i) {
    std::int64_t rest = i, global = 0, stride = 1;
    bool exists = true;
    for (std::size_t d = shard.buffer_shape.size(); d-- > 0; rest /= shard.buffer_shape[d]) {
      const std::int64_t at = rest % shard.buffer_shape[d];
      exists = exists && at < shard.extent[d];
      global += stride * (shard.offset[d] + at);
      stride *= shard.global_shape[d];
    }
    const float* data = reinterpret_cast<const float*>(shard.memory.host);
    if (exists)
      whole[static_cast<std::size_t>(global)] = data[i];
    else
      EXPECT_EQ(data[i], 0.0f) << shard.name << ": padding, on whose zeros sums count";
  }
}

inline std::map<std::string, std::vector<float>> empty_weights(std::span<const TensorShard> shards) {
  std::map<std::string, std::vector<float>> weights;
  for (const TensorShard& shard : shards) {
    std::int64_t num_elements = 1;
    for (const std::int64_t extent : shard.global_shape) num_elements *= extent;
    weights[shard.name].assign(static_cast<std::size_t>(num_elements), std::nanf(""));
  }
  return weights;
}

inline Training train(const Subject& subject, const StepConfig& step, const Mesh& mesh, int num_threads = 1) {
  const StepPlan plan = compile_step(subject.task(), step, mesh, num_threads);
  const DataOrder order(step.seed, subject.train().num_samples());
  Training run;
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    Trainer trainer(subject.task(), step, plan, world);
    trainer.initialize_weights();
    Training mine;
    for (std::int64_t i = 0; i < kSteps; ++i) {
      const StepResult result = trainer.step(subject.train(), order);
      mine.losses.push_back(result.loss);
      mine.grad_norms.push_back(result.grad_norm);
    }
    mine.valid_loss = trainer.evaluate(subject.valid()).loss;
    mine.valid_loss_of_five = trainer.evaluate(subject.valid(), 5).loss;
    const std::vector<TensorShard> shards = trainer.shards();
    if (world.rank() == 0) {
      run = std::move(mine);
      run.weights = empty_weights(shards);
    }
    world.barrier({"whole weights are allocated"});
    for (const TensorShard& shard : shards)  // ranks that write hold different elements
      if (shard.writes) collect(shard, run.weights.at(shard.name));
  });
  return run;
}

inline double relative(double found, double wanted) {
  return std::abs(found - wanted) / std::max(std::abs(wanted), 1e-12);
}

struct Tolerances {
  double loss = 1e-5, grad_norm = 1e-4, weight = 1e-4;
};

inline void expect_close(const Training& found, const Training& wanted, const Tolerances& tolerance) {
  for (std::size_t step = 0; step < wanted.losses.size(); ++step) {
    EXPECT_LE(relative(found.losses[step], wanted.losses[step]), tolerance.loss) << "loss of step " << step;
    EXPECT_LE(relative(found.grad_norms[step], wanted.grad_norms[step]), tolerance.grad_norm)
        << "gradient norm of step " << step;
  }
  EXPECT_LE(relative(found.valid_loss, wanted.valid_loss), tolerance.loss);
  EXPECT_LE(relative(found.valid_loss_of_five, wanted.valid_loss_of_five), tolerance.loss);
  ASSERT_EQ(found.weights.size(), wanted.weights.size());
  for (const auto& [name, weights] : wanted.weights) {
    const std::vector<float>& others = found.weights.at(name);
    ASSERT_EQ(others.size(), weights.size()) << name;
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double a = others[i], b = weights[i], error = std::abs(a - b) / std::max(1.0, std::abs(b));
      if (error <= worst || std::isnan(worst)) continue;
      worst = error;  // a NaN stays: an element that no rank has
      where = i;
    }
    EXPECT_TRUE(worst <= tolerance.weight) << name << "[" << where << "] is off by " << worst;
  }
}

inline void expect_same_bits(const Training& found, const Training& wanted) {
  EXPECT_EQ(found.losses, wanted.losses);
  EXPECT_EQ(found.grad_norms, wanted.grad_norms);
  EXPECT_EQ(found.valid_loss, wanted.valid_loss);
  EXPECT_EQ(found.weights, wanted.weights);
}

struct Case {
  std::string name;
  std::function<std::unique_ptr<Subject>()> make;
  StepConfig step;
};
inline void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

inline Case gpt_case(const std::string& name, const GptConfig& config, StepConfig step) {
  // Softmax does not see a bias on the keys: its gradient is rounding noise of 1e-9, another on every mesh,
  // from which AdamW would make whole steps.
  if (config.family == "gpt2") step.optimizer.eps = 1e-5;
  return {name, [config] { return std::make_unique<GptSubject>(config); }, step};
}

inline std::vector<Case> cases() {
  const MlpConfig mlp{.inputs = 6, .outputs = 7, .layers = 2, .embed = 16, .mlp = 30};
  return {gpt_case("LlamaGroupedQueries", llama(2, 32, false), step_of("adamw")),
          gpt_case("LlamaOddSizes", llama(4, 44, false), step_of("adamw")),
          gpt_case("LlamaTied", llama(1, 45, true), step_of("adamw")),
          gpt_case("Gpt2Tied", gpt2(), step_of("adamw")),
          gpt_case("LlamaSgd", llama(2, 44, false), step_of("sgd")),
          gpt_case("LlamaLion", llama(2, 44, false), step_of("lion")),
          gpt_case("LlamaLamb", llama(4, 45, true), step_of("lamb")),
          gpt_case("LlamaMuon", llama(2, 44, false), step_of("muon")),
          gpt_case("Gpt2Muon", gpt2(), step_of("muon")),
          gpt_case("Mixtral", mixtral(), step_of("adamw")),
          {"Mlp", [mlp] { return std::make_unique<MlpSubject>(mlp); }, step_of("adamw")}};
}

}  // namespace takt
