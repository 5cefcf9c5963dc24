// What a training asks of NCCL: every group that its steps use has the settings of the job, and knows the memory of the plan.
#include <gtest/gtest.h>
#include <nccl.h>

#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"
#include "tests/emulated/nccl_control.h"

namespace takt {
namespace {

using Registration = NcclSettings::Registration;

class NcclTraining : public CudaTest {
 protected:
  void TearDown() override {
    CudaTest::TearDown();
    emulated::reset_nccl();
  }
};

// Two data ranks by two tensor ranks, so that there are groups along each axis and over all.
SmallTraining training_of(const NcclSettings& nccl) {
  SmallTraining training{.step = {.global_batch = 4, .micro_batch = 2, .steps = 2, .grad_clip = 0.8},
                         .data = 2,
                         .tensor = 2,
                         .num_steps = 2,
                         .nccl = nccl};
  training.step.layout.shard = Shard::kOptimizer;
  return training;
}

TEST_F(NcclTraining, EveryGroupHasTheSettings) {
  for (const Registration registration :
       {Registration::kNone, Registration::kLocal, Registration::kSymmetric}) {
    const SmallTraining training = training_of({.min_ctas = 2,
                                                .max_ctas = 8,
                                                .nvls_ctas = 4,
                                                .cta_policy = NcclSettings::CtaPolicy::kEfficiency,
                                                .registration = registration});
    const SmallModel model = small_mlp({.layers = 1, .embed = 8, .mlp = 10});
    const std::unique_ptr<Task> task = model.make();
    const std::unique_ptr<Dataset> data = model.data();
    const DataOrder order(1, data->num_samples());
    const StepPlan plan = compile_step(*task, training.step, training.mesh(), {DeviceKind::kCuda, 1});
    run_ranks(4, [&](Communicator& world) {
      Trainer trainer(*task, training.step, plan, world, {.gpu = world.rank(), .nccl = training.nccl});
      trainer.initialize_weights();
      EXPECT_TRUE(std::isfinite(trainer.step(*data, order).loss));
      world.barrier({.value = "all have trained"});
      const std::vector<emulated::NcclFacts> groups = emulated::live_communicators();
      EXPECT_GE(groups.size(), 12u) << "over all, and along each axis, on four ranks";
      for (const emulated::NcclFacts& group : groups) {
        SCOPED_TRACE(group.name);
        EXPECT_EQ(group.config.minCTAs, 2);
        EXPECT_EQ(group.config.maxCTAs, 8);
        EXPECT_EQ(group.config.nvlsCTAs, 4);
        EXPECT_EQ(group.config.CTAPolicy, NCCL_CTA_POLICY_EFFICIENCY);
        EXPECT_EQ(group.num_registered, registration == Registration::kLocal ? 1u : 0u);
        EXPECT_EQ(group.num_windows, registration == Registration::kSymmetric ? 1u : 0u);
      }
      world.barrier({.value = "all have looked"});
    });
  }
}

// Racks of two: a data group of four is reduced inside each, then across.
TEST_F(NcclTraining, DomainsChangeHowAndNotWhat) {
  SmallTraining training{
      .step = {.global_batch = 4, .micro_batch = 1, .steps = 2, .grad_clip = 0.8}, .data = 4, .num_steps = 2};
  const SmallModel model = small_mlp({.layers = 1, .embed = 8, .mlp = 10});
  const Trained plain = SmallRun(model, training, DeviceKind::kCuda)();
  const std::unique_ptr<Task> task = model.make();
  const std::unique_ptr<Dataset> data = model.data();
  const DataOrder order(training.step.seed, data->num_samples());
  const StepPlan plan = compile_step(*task, training.step, training.mesh(), {DeviceKind::kCuda, 1});
  Trained by_domain;
  std::size_t num_groups = 0;
  run_ranks(4, [&](Communicator& world) {
    Trainer trainer(*task, training.step, plan, world,
                    {.gpu = world.rank(),
                     .nccl = {.reduces_by_domain = true, .domain = concat("rack ", world.rank() / 2)}});
    Trained mine = train_rank(trainer, training.num_steps, *data, order);
    world.barrier({.value = "all have trained"});
    if (world.rank() == 0) {
      by_domain = std::move(mine);
      for (const emulated::NcclFacts& group : emulated::live_communicators())
        num_groups += group.name.find("domain") != std::string::npos ? 1 : 0;
    }
    world.barrier({.value = "all have looked"});
  });
  EXPECT_GE(num_groups, 8u) << "inside and across, on four ranks";
  ASSERT_EQ(by_domain.losses.size(), plain.losses.size());
  for (std::size_t i = 0; i < plain.losses.size(); ++i)
    EXPECT_NEAR(by_domain.losses[i], plain.losses[i], 1e-5 * std::abs(plain.losses[i]));
}

}  // namespace
}  // namespace takt
