// Trainings that are small enough for the emulated device: their models, their data, and what came out on the first rank.
#pragma once

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "collectives/local.h"
#include "core/train/language_task.h"
#include "core/train/regression_task.h"
#include "core/train/trainer.h"
#include "tests/chain_dataset.h"

namespace takt {

inline constexpr std::int64_t kSeq = 12, kVocab = 37;
inline constexpr int kNumEvaluated = 5;  // samples, after the last step

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

struct SmallModel {
  std::string name;
  std::function<std::unique_ptr<Task>()> make;
  std::function<std::unique_ptr<Dataset>()> data;
};

inline void PrintTo(const SmallModel& model, std::ostream* out) {
  *out << model.name;
}

inline SmallModel small_gpt(const std::string& name, const GptConfig& config) {
  return {name, [config] { return std::make_unique<LanguageTask>(config); },
          [] { return std::make_unique<Chain>(kSeq, kVocab); }};
}

inline SmallModel small_mlp(const MlpConfig& config) {
  return {"Mlp",
          [config] {
            return std::make_unique<RegressionTask>(
                config, RegressionTask::Arrays{.input_shape = {6}, .output_shape = {7}});
          },
          [] { return std::make_unique<Waves>(); }};
}

struct SmallTraining {
  StepConfig step = {};
  int data = 1, expert = 1, tensor = 1, replica = 1, context = 1;
  std::int64_t num_steps = 3;
  NcclSettings nccl = {};

  Mesh mesh() const {
    return {{{"replica", replica, 1},
             {"data", data, 1},
             {"context", context},
             {"expert", expert, 1},
             {"tensor", tensor}}};
  }
};

// What came out, on the first rank.
struct Trained {
  std::vector<double> losses, grad_norms;  // the last loss is that of an evaluation
  std::map<std::string, std::vector<float>> weights = {};

  bool operator==(const Trained&) const = default;
};

inline std::vector<float> elements_of(const TensorShard& shard) {
  std::int64_t num_elements = 1;
  for (const std::int64_t extent : shard.buffer_shape) num_elements *= extent;
  std::vector<float> elements(static_cast<std::size_t>(num_elements));
  shard.memory.read(0, std::as_writable_bytes(std::span(elements)));
  return elements;
}

inline Trained train_rank(Trainer& trainer, std::int64_t num_steps, const Dataset& dataset,
                          const DataOrder& order) {
  trainer.initialize_weights();
  Trained mine;
  for (std::int64_t i = 0; i < num_steps; ++i) {
    const StepResult result = trainer.step(dataset, order);
    mine.losses.push_back(result.loss);
    mine.grad_norms.push_back(result.grad_norm);
  }
  mine.losses.push_back(trainer.evaluate(dataset, kNumEvaluated).loss);
  for (const TensorShard& shard : trainer.shards()) mine.weights[shard.name] = elements_of(shard);
  return mine;
}

// A training whose plan is compiled once and can be run again and again.
class SmallRun {
 public:
  SmallRun(const SmallModel& model, const SmallTraining& training, DeviceKind device)
      : training_(training),
        task_(model.make()),
        dataset_(model.data()),
        plan_(compile_step(*task_, training.step, training.mesh(), {device, 1})),
        order_(training.step.seed, dataset_->num_samples()) {}

  const StepPlan& plan() const { return plan_; }
  int num_ranks() const { return plan_.mesh.num_ranks(); }

  // What rank `world.rank()` does, on the GPU of its number.
  Trained on_rank(Communicator& world) const {
    Trainer trainer(*task_, training_.step, plan_, world, {.gpu = world.rank(), .nccl = training_.nccl});
    return train_rank(trainer, training_.num_steps, *dataset_, order_);
  }
  // All ranks, as threads.
  Trained operator()() const {
    Trained trained;
    run_ranks(num_ranks(), [&](Communicator& world) {
      Trained mine = on_rank(world);
      if (world.rank() == 0) trained = std::move(mine);
    });
    return trained;
  }

 private:
  const SmallTraining training_;
  std::unique_ptr<Task> task_;
  std::unique_ptr<Dataset> dataset_;
  StepPlan plan_;
  DataOrder order_;
};

}  // namespace takt
