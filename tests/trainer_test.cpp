// What a trainer says of a task of an application's own: its loss, its metrics, and its figures, on any number of ranks.
#include "core/train/trainer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "collectives/local.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

// Learns y = 3 x. The metric is the prediction itself, the figure the loss by the sum of squares of the targets.
class Slope final : public Task {
 public:
  TaskOutputs build(Graph& graph, std::int64_t num_samples) const override {
    const ValueId y = graph.input("y", {{{"batch", num_samples}, {"output", 1}}, DType::kF32});
    const ValueId prediction = build_prediction(graph, num_samples);
    return {.losses = squared_error(graph, prediction, y, "loss"),
            .metrics = {scale(graph, prediction, 1, "prediction")}};
  }
  ValueId build_prediction(Graph& graph, std::int64_t num_samples) const override {
    const ValueId x = graph.input("x", {{{"batch", num_samples}, {"input", 1}}, DType::kF32});
    const ValueId slope = graph.parameter("slope", {{{"output", 1}, {"input", 1}}, DType::kF32},
                                          {.init = ParameterInfo::Init::kOnes, .decays = false});
    return matmul(graph, x, slope, {"batch", "output"}, "slope.x");
  }
  std::vector<Figure> figures(const Dataset&) const override {
    const auto square = [](std::int64_t sample) { return 9.0 * static_cast<double>(sample * sample); };
    return {{"relative", square, [](double ratio) { return std::sqrt(ratio); }}};
  }
};

// x is the number of the sample.
class Numbers final : public Dataset {
 public:
  explicit Numbers(std::int64_t num_samples) : num_samples_(num_samples) {}
  std::int64_t num_samples() const override { return num_samples_; }
  std::uint64_t content_hash() const override { return 1; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    for (const NamedBuffer& buffer : buffers)
      for (std::size_t i = 0; i < samples.size(); ++i)
        reinterpret_cast<float*>(buffer.bytes.data())[i] =
            (buffer.name == "y" ? 3.0f : 1.0f) * static_cast<float>(samples[i]);
  }

 private:
  std::int64_t num_samples_;
};

TEST(Trainer, MetricsAndFiguresCountEverySampleOnce) {
  const Slope task;
  const Numbers numbers(7);  // no multiple of any micro-batch
  const StepConfig config{.global_batch = 8, .micro_batch = 2};
  for (const int ranks : {1, 2, 4}) {
    const Mesh mesh{{{"data", ranks}}};
    const StepPlan plan = compile_step(task, config, mesh, 1);
    run_ranks(ranks, [&](Communicator& world) {
      Trainer trainer(task, config, plan, world);
      trainer.initialize_weights();
      const Evaluation all = trainer.evaluate(numbers);
      // 0 to 6, seen through a slope of 1: errors are 2 x.
      EXPECT_NEAR(all.loss, 4.0 * 91 / 7, 1e-4) << ranks;
      ASSERT_EQ(all.figures.size(), 2u);
      EXPECT_EQ(all.figures[0].first, "prediction");
      EXPECT_NEAR(all.figures[0].second, 3, 1e-5) << ranks;
      EXPECT_EQ(all.figures[1].first, "relative");
      EXPECT_NEAR(all.figures[1].second, 2.0 / 3, 1e-5) << ranks;
      EXPECT_NEAR(trainer.evaluate(numbers, 3).figures[0].second, 1, 1e-5) << ranks;
    });
  }
}

TEST(Trainer, LearnsWhatTheTaskSays) {
  const Slope task;
  const Numbers numbers(4);
  StepConfig config{.global_batch = 4, .steps = 200};
  config.optimizer.kind = "sgd";
  config.optimizer.lr = 0.02;
  config.optimizer.momentum = 0;
  const StepPlan plan = compile_step(task, config, {{{"data", 1}}}, 1);
  run_ranks(1, [&](Communicator& world) {
    Trainer trainer(task, config, plan, world);
    trainer.initialize_weights();
    const DataOrder order(1, numbers.num_samples());
    for (int step = 0; step < 200; ++step) trainer.step(numbers, order);
    EXPECT_LT(trainer.evaluate(numbers).loss, 1e-6);
    EXPECT_EQ(trainer.cursor().samples, 800);
  });
}

}  // namespace
}  // namespace takt
