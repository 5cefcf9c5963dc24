// Any mesh equals one rank: the same job, trained on ranks as threads, gives the same losses, gradient norms
// and weights however the ranks are arranged.
#include "tests/mesh_training.h"

namespace takt {
namespace {

class MeshEquality : public testing::TestWithParam<Case> {
 protected:
  MeshEquality() : subject_(GetParam().make()), step_(GetParam().step), alone_(trained(step_, 1, 1)) {}
  Training trained(const StepConfig& step, int data, int tensor, int num_threads = 1) const {
    return train(*subject_, step, {{{"data", data, 1}, {"tensor", tensor}}}, num_threads);
  }
  std::unique_ptr<Subject> subject_;
  StepConfig step_;
  Training alone_;
};

TEST_P(MeshEquality, OneRankLearnsAndIsClipped) {
  EXPECT_LT(alone_.losses.back(), 0.9 * alone_.losses.front());
  EXPECT_LT(alone_.valid_loss, 0.95 * alone_.losses.front());
  EXPECT_GT(alone_.grad_norms.front(), step_.grad_clip);
}

TEST_P(MeshEquality, AnyMeshEqualsOneRank) {
  for (const int data : {1, 2, 4})
    for (const int tensor : {1, 2, 4}) {
      if (data * tensor == 1) continue;
      SCOPED_TRACE(concat("data=", data, " tensor=", tensor));
      expect_close(trained(step_, data, tensor), alone_, {});
    }
}

// ZeRO-1 changes where state lies, not what it is; also where tensor cuts the same axis, and where nothing divides.
TEST_P(MeshEquality, ShardedOptimizerStateEqualsOneRank) {
  StepConfig step = step_;
  step.layout.shard = Shard::kOptimizer;
  for (const auto& [data, tensor] : {std::pair(2, 1), {4, 1}, {2, 2}, {4, 2}}) {
    SCOPED_TRACE(concat("data=", data, " tensor=", tensor));
    expect_close(trained(step, data, tensor), alone_, {});
  }
}

// Matrix products in bf16 keep 8 bits of every factor; what they are rounded from and summed into is f32.
TEST_P(MeshEquality, MixedPrecisionStaysNearFullPrecision) {
  StepConfig step = step_;
  step.precision = Precision::kBF16;
  const Tolerances one_step{.loss = 2e-2, .grad_norm = 0.15, .weight = 0.2};
  const Training alone = trained(step, 1, 1);
  EXPECT_LE(relative(alone.losses.front(), alone_.losses.front()), 1e-3);
  EXPECT_LE(relative(alone.grad_norms.front(), alone_.grad_norms.front()), 1e-2);
  expect_close(alone, alone_, one_step);
  step.layout.shard = Shard::kOptimizer;
  expect_close(trained(step, 2, 2), alone, one_step);
}

TEST_P(MeshEquality, SameLayoutGivesTheSameBits) {
  expect_same_bits(trained(step_, 2, 2), trained(step_, 2, 2));
}

TEST_P(MeshEquality, BucketSizeDoesNotChangeABit) {
  StepConfig small = step_;
  small.bucket_bytes = 1000;
  expect_same_bits(trained(small, 4, 2), trained(step_, 4, 2));
}

// Joining the last micro-batch and the update lets reductions start earlier; what is reduced stays the same.
TEST_P(MeshEquality, OverlapDoesNotChangeABit) {
  for (const Shard shard : {Shard::kNone, Shard::kOptimizer})
    for (const auto& [data, tensor] : {std::pair(4, 1), {2, 2}}) {
      SCOPED_TRACE(concat(shard == Shard::kNone ? "none" : "optimizer", " data=", data, " tensor=", tensor));
      StepConfig step = step_;
      step.bucket_bytes = 4000;
      step.layout.shard = shard;
      const Training blocking = trained(step, data, tensor);
      step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
      expect_same_bits(trained(step, data, tensor), blocking);
    }
}

TEST_P(MeshEquality, HoldsForAnyNumberOfThreads) {
  expect_close(trained(step_, 1, 2, 2), trained(step_, 1, 2), {1e-5, 1e-5, 1e-5});
}

// Source: Rajbhandari et al. 2020: with d data ranks a rank keeps 1/d of the optimizer state and of the masters.
TEST(ShardedOptimizer, KeepsItsShareOfTheState) {
  const LanguageTask task(llama(4, 32, false));
  StepConfig step = step_of("adamw");
  const auto bytes = [&](int data, Role role) {
    return static_cast<double>(
        compile_step(task, step, {{{"data", data, 1}, {"tensor", 1}}}, 1).arena.bytes_by_role.at(role));
  };
  const double state = bytes(1, Role::kState), masters = bytes(1, Role::kParameter);
  const double constants = bytes(1, Role::kDerived);
  step.layout.shard = Shard::kOptimizer;
  EXPECT_EQ(bytes(1, Role::kDerived), constants) << "one data rank: no copies";
  for (const int data : {2, 4}) {
    EXPECT_NEAR(bytes(data, Role::kState) * data / state, 1.0, 0.05) << data;
    EXPECT_NEAR(bytes(data, Role::kParameter) * data / masters, 1.0, 0.05) << data;
    EXPECT_NEAR(bytes(data, Role::kDerived) / masters, 1.0, 0.05) << "the whole weights that the model reads";
  }
}

// Every gradient is scattered once, every weight gathered once, in the dtype that the model reads; nothing else but
// numbers goes over data.
TEST(ShardedOptimizer, ScattersAndGathersEachParameterOnce) {
  for (const Precision precision : {Precision::kF32, Precision::kBF16})
    for (const int tensor : {1, 2}) {
      const LanguageTask task(llama(4, 32, false));
      StepConfig step = step_of("adamw");
      step.layout.shard = Shard::kOptimizer;
      step.precision = precision;
      step.micro_batch = 4;  // with fewer tokens than weights, gathering the tokens is cheaper, and is taken
      const StepPlan plan = compile_step(task, step, {{{"data", 2, 1}, {"tensor", tensor}}}, 1);
      std::size_t num_parameters = 0, num_scattered = 0, num_gathered = 0;
      for (const PersistentValue& value : plan.table.values())
        num_parameters += value.role == Role::kParameter;
      for (const std::string_view program : {kMicroBatch, kUpdate, kRefresh})
        for (const auto& traffic : cost_of(plan.programs[plan.index_of(program)]).traffic) {
          if (traffic.mesh_axes != "data") continue;
          num_scattered += traffic.op == "reduce_scatter" ? traffic.num_calls : 0;
          num_gathered += traffic.op == "all_gather" ? traffic.num_calls : 0;
        }
      EXPECT_EQ(num_scattered, num_parameters)
          << (precision == Precision::kBF16 ? "bf16" : "f32") << " tensor=" << tensor;
      EXPECT_EQ(num_gathered, num_parameters)
          << (precision == Precision::kBF16 ? "bf16" : "f32") << " tensor=" << tensor;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, MeshEquality, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
