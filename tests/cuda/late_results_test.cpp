// Results that are read while the next step runs: they are those that are waited for, nothing is applied after a step that
// failed, and the host waits for nothing else.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/exec/cuda_executor.h"
#include "optimizers/applied_factor.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/device_tensor.h"
#include "tests/cuda/small_training.h"
#include "tests/emulated/control.h"

namespace takt {
namespace {

using Weights = std::map<std::string, std::vector<float>>;

// Waves of which one sample is not finite.
class BrokenWaves final : public Dataset {
 public:
  explicit BrokenWaves(std::int64_t broken) : broken_(broken) {}
  std::int64_t num_samples() const override { return waves_.num_samples(); }
  std::uint64_t content_hash() const override { return 5; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    waves_.fill(samples, buffers);
    for (const NamedBuffer& buffer : buffers)
      for (std::size_t i = 0; i < samples.size(); ++i) {
        if (buffer.name != "targets" || samples[i] != broken_) continue;
        reinterpret_cast<float*>(buffer.bytes.data())[7 * i] = std::numeric_limits<float>::infinity();
      }
  }

 private:
  Waves waves_;
  std::int64_t broken_;
};

SmallModel model() {
  return small_mlp({.layers = 1, .embed = 8, .mlp = 10});
}

SmallTraining training_of(int data, bool joins) {
  SmallTraining training{.step = {.global_batch = 8, .micro_batch = 8 / data, .steps = 5, .grad_clip = 0.8},
                         .data = data};
  training.step.layout.shard = data > 1 ? Shard::kOptimizer : Shard::kNone;
  if (joins) training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  return training;
}

// What every rank of a small training does with its trainer.
template <class Body>
void on_ranks(const SmallTraining& training, DeviceKind device, const Body& body) {
  const std::unique_ptr<Task> task = model().make();
  const StepPlan plan = compile_step(*task, training.step, training.mesh(), {device, 1});
  run_ranks(plan.mesh.num_ranks(), [&](Communicator& world) {
    Trainer trainer(*task, training.step, plan, world, {.gpu = world.rank()});
    trainer.initialize_weights();
    body(trainer, world.rank());
  });
}

Weights weights_of(Trainer& trainer) {
  Weights weights;
  for (const TensorShard& shard : trainer.shards()) weights[shard.name] = elements_of(shard);
  return weights;
}

class LateResults : public CudaTest {};

TEST_F(LateResults, AreThoseThatAreWaitedFor) {
  const Waves waves;
  const DataOrder order(1, waves.num_samples());
  for (const int data : {1, 2}) {
    std::vector<StepResult> waited, late;
    Weights waited_weights, late_weights;
    on_ranks(training_of(data, true), DeviceKind::kCuda, [&](Trainer& trainer, int rank) {
      for (int i = 0; i < 5; ++i) {
        const StepResult result = trainer.step(waves, order);
        if (rank == 0) waited.push_back(result);
      }
      if (rank == 0) waited_weights = weights_of(trainer);
    });
    on_ranks(training_of(data, true), DeviceKind::kCuda, [&](Trainer& trainer, int rank) {
      EXPECT_EQ(trainer.num_ahead(), 1);
      for (int i = 0; i < 5; ++i) {
        trainer.start_step(waves, order);
        while (trainer.num_unfinished() > (i < 4 ? trainer.num_ahead() : 0)) {
          const StepResult result = trainer.finish_step();
          if (rank == 0) late.push_back(result);
        }
      }
      if (rank == 0) late_weights = weights_of(trainer);
    });
    ASSERT_EQ(late.size(), waited.size());
    for (std::size_t i = 0; i < late.size(); ++i) {
      EXPECT_EQ(late[i].step, static_cast<std::int64_t>(i) + 1);
      EXPECT_EQ(late[i].samples, waited[i].samples);
      EXPECT_EQ(late[i].loss, waited[i].loss);
      EXPECT_EQ(late[i].grad_norm, waited[i].grad_norm);
      EXPECT_EQ(late[i].lr, waited[i].lr);
    }
    EXPECT_EQ(late_weights, waited_weights);
  }
}

// Step 3 fails, and step 4 begins before anybody has seen that. Without the flag it would be applied, as it is once a new
// start has cleared the flag.
TEST_F(LateResults, NothingIsAppliedAfterAStepThatFailed) {
  for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kCuda})
    for (const int data : {1, 2})
      for (const bool joins : {false, true}) {
        SCOPED_TRACE(
            concat(device == DeviceKind::kCpu ? "cpu" : "cuda", " data=", data, joins ? " joined" : ""));
        const SmallTraining training = training_of(data, joins);
        const Waves waves;
        const DataOrder order(1, waves.num_samples());
        const BrokenWaves broken(order.at(2 * training.step.global_batch + 5));
        on_ranks(training, device, [&](Trainer& trainer, int) {
          for (int i = 0; i < 2; ++i) trainer.step(broken, order);
          const Weights before = weights_of(trainer);
          trainer.start_step(broken, order);
          trainer.start_step(broken, order);
          EXPECT_FALSE(std::isfinite(trainer.finish_step().loss));
          EXPECT_TRUE(std::isfinite(trainer.finish_step().loss)) << "step 4 alone has nothing wrong";
          EXPECT_EQ(weights_of(trainer), before);
          trainer.start();
          trainer.step(broken, order);
          EXPECT_NE(weights_of(trainer), before);
        });
      }
}

// A loss may overflow where no gradient does.
TEST_F(LateResults, AFactorIsAppliedUntilSomethingIsNotFinite) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::nan("");
  CudaContext context;
  const Attrs attrs;
  const std::string name = "applied";
  KernelNode node{{name, attrs, {{}, {}, {}}, {{}, {}}}};
  const Kernel cpu = applied_factor_op().cpu.prepare(node);
  node.cuda = &context;
  const Kernel cuda = applied_factor_op().cuda.prepare(node);
  for (const double factor : {0.5, kInfinity, kNan})
    for (const double loss : {2.0, -kInfinity, kNan})
      for (const double failed : {0.0, 1.0}) {
        SCOPED_TRACE(concat("factor ", factor, ", loss ", loss, ", failed ", failed));
        const bool is_fine = std::isfinite(factor) && std::isfinite(loss) && failed == 0;
        float in[] = {static_cast<float>(factor), static_cast<float>(loss), static_cast<float>(failed)};
        float applied = 0;
        void *inputs[] = {&in[0], &in[1], &in[2]}, *outputs[] = {&applied, &in[2]};
        cpu({inputs, outputs});
        EXPECT_EQ(std::isnan(applied), !is_fine);
        EXPECT_EQ(in[2], is_fine ? 0.0f : 1.0f);
        DeviceTensor tensors[] = {{{}, {factor}}, {{}, {loss}}, {{}, {failed}}, {{}, {0}}};
        void *gpu_inputs[] = {tensors[0].data(), tensors[1].data(), tensors[2].data()},
             *gpu_outputs[] = {tensors[3].data(), tensors[2].data()};
        cuda({.inputs = gpu_inputs, .outputs = gpu_outputs, .stream = context.compute_stream().get()});
        context.synchronize();
        EXPECT_EQ(std::isnan(tensors[3].elements()[0]), !is_fine);
        EXPECT_EQ(tensors[2].elements()[0], is_fine ? 0 : 1);
        if (is_fine) {
          EXPECT_EQ(tensors[3].elements()[0], factor);
        }
      }
}

// Nothing runs unless somebody waits for it, so that whatever has run was waited for.
class NobodyWaits : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    emulated::Settings settings = emulated::settings();
    settings.schedule = emulated::Schedule::kLazy;
    settings.hold_ms = 600000;
    emulated::configure(settings);
  }
  void TearDown() override {
    CudaTest::TearDown();
    emulated::reset();
  }
};

TEST_F(NobodyWaits, WhileTwoStepsBegin) {
  const Waves waves;
  const DataOrder order(1, waves.num_samples());
  on_ranks(training_of(1, true), DeviceKind::kCuda, [&](Trainer& trainer, int) {
    const emulated::Counters before = emulated::counters();
    trainer.start_step(waves, order);
    trainer.start_step(waves, order);
    const emulated::Counters after = emulated::counters();
    EXPECT_EQ(after.num_host_waits, before.num_host_waits);
    EXPECT_EQ(after.num_operations, before.num_operations) << "something has run";
    EXPECT_EQ(after.num_graph_launches, before.num_graph_launches + 2);
    EXPECT_GT(trainer.finish_step().loss, trainer.finish_step().loss);
  });
}

TEST_F(NobodyWaits, ForTheProgramWhenTheNextInputsAreCopied) {
  const SmallRun run(model(), training_of(1, false), DeviceKind::kCuda);
  run_ranks(1, [&](Communicator& world) {
    CudaExecutor executor(run.plan(), world);
    std::vector<const PersistentValue*> inputs;
    for (const PersistentValue& value : run.plan().table.values())
      if (value.role == Role::kInput && value.name != kHyper) inputs.push_back(&value);
    const auto write = [&](const PersistentValue& input, int micro_batch) {
      executor.write(input.name, std::vector<std::byte>(input.desc.num_bytes()), micro_batch);
    };
    for (const PersistentValue* input : inputs) write(*input, 0);
    executor.run({.program = static_cast<int>(run.plan().index_of(kMicroBatch)), .micro_batch = 0});
    for (const PersistentValue* input : inputs) write(*input, 1);
    const emulated::Counters before = emulated::counters();
    write(*inputs.front(), 1);  // waits until the copy before it has left the host's memory
    EXPECT_EQ(emulated::counters().num_operations, before.num_operations + inputs.size() + 1)
        << "copies up to that one have run, and no program";
  });
}

}  // namespace
}  // namespace takt
