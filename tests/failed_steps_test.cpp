// Steps whose numbers are not finite: nothing is applied, the culprit is named, and the next step goes on where it may.
#include "tests/mesh_training.h"

namespace takt {
namespace {

// As it is, but for one sample, which is not a number.
class Poisoned final : public Dataset {
 public:
  Poisoned(const Dataset& data, std::int64_t sample) : data_(data), sample_(sample) {}
  std::int64_t num_samples() const override { return data_.num_samples(); }
  std::uint64_t content_hash() const override { return data_.content_hash(); }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    data_.fill(samples, buffers);
    for (const NamedBuffer& buffer : buffers) {
      auto* numbers = reinterpret_cast<float*>(buffer.bytes.data());
      const std::size_t a_sample = buffer.bytes.size() / sizeof(float) / samples.size();
      for (std::size_t i = 0; i < samples.size(); ++i)
        if (samples[i] == sample_) numbers[i * a_sample] = std::nanf("");
    }
  }

 private:
  const Dataset& data_;
  std::int64_t sample_;
};

struct Outcome {
  StepResult failed, next;
  std::string culprit;
  bool was_applied = false, next_was_applied = false;
};

constexpr int kData = 2;
const MlpSubject kSubject({.inputs = 6, .outputs = 7, .layers = 1, .embed = 8, .mlp = 10});

// A step with the poison in a micro-batch of a data rank, and the one after it.
Outcome run(bool skips, int data_rank, int micro_batch) {
  StepConfig step = step_of("adamw");
  step.micro_batch = 2;  // 8 samples are 2 ranks x 2 micro-batches x 2
  step.skips_failed_steps = skips;
  const Mesh mesh{{{"data", kData, 1}, {"tensor", 2}}};
  const StepPlan plan = compile_step(kSubject.task(), step, mesh, 1);
  const DataOrder order(step.seed, kSubject.train().num_samples());
  const Poisoned data(kSubject.train(), order.at((data_rank * 2 + micro_batch) * 2 + 1));
  Outcome outcome;
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    Trainer trainer(kSubject.task(), step, plan, world);
    trainer.initialize_weights();
    const auto weights = [&] {
      std::vector<float> all;
      for (const TensorShard& shard : trainer.shards()) {
        const auto* first = reinterpret_cast<const float*>(shard.memory.host);
        std::int64_t count = 1;
        for (const std::int64_t extent : shard.buffer_shape) count *= extent;
        all.insert(all.end(), first, first + count);
      }
      return all;
    };
    const std::vector<float> before = weights();
    Outcome mine{.failed = trainer.step(data, order), .next = {}, .culprit = {}};
    mine.was_applied = weights() != before;
    mine.culprit = trainer.trace_failure(mine.failed, data, order);
    mine.next = trainer.step(data, order);
    mine.next_was_applied = weights() != before;
    if (world.rank() == 0) outcome = mine;
  });
  return outcome;
}

TEST(FailedSteps, NameMicroBatchAndRankAndChangeNothing) {
  for (const int data_rank : {0, 1})
    for (const int micro_batch : {0, 1}) {
      const Outcome outcome = run(false, data_rank, micro_batch);
      EXPECT_TRUE(std::isnan(outcome.failed.loss));
      EXPECT_FALSE(outcome.was_applied);
      EXPECT_EQ(outcome.culprit, concat("the loss in micro-batch ", micro_batch, " on rank ", data_rank * 2));
      EXPECT_TRUE(std::isfinite(outcome.next.loss)) << "its samples are sound";
      EXPECT_FALSE(outcome.next_was_applied) << "nobody has looked at the step before it yet";
    }
}

TEST(FailedSteps, ArePassedOverWhereAskedFor) {
  const Outcome outcome = run(true, 1, 0);
  EXPECT_FALSE(outcome.was_applied);
  EXPECT_TRUE(outcome.next_was_applied);
  EXPECT_TRUE(std::isfinite(outcome.next.loss));
}

TEST(FailedSteps, SoundOnesShowNothing) {
  const Outcome outcome = run(true, kData, 0);  // the sample of a later step
  EXPECT_TRUE(outcome.was_applied);
  EXPECT_EQ(outcome.culprit, "");
}

}  // namespace
}  // namespace takt
