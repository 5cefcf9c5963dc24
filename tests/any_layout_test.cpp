// Any layout equals one rank: what data ranks share (ZeRO), in groups of any size, beside tensor parallelism.
#include <array>

#include "tests/mesh_training.h"

namespace takt {
namespace {

// A mesh of groups of data ranks, each of which has one copy of what is shared.
Mesh mesh_of(int replica, int data, int tensor) {
  return {{{"replica", replica, 1}, {"data", data, 1}, {"tensor", tensor}}};
}

class AnyLayout : public testing::TestWithParam<Case> {
 protected:
  AnyLayout()
      : subject_(GetParam().make()),
        step_(GetParam().step),
        alone_(train(*subject_, step_, mesh_of(1, 1, 1))) {}
  void expect_as_alone(const StepConfig& step, const Mesh& mesh) const {
    SCOPED_TRACE(
        concat("shard=", shard_names()[static_cast<std::size_t>(step.layout.shard)], " ", to_string(mesh)));
    expect_close(train(*subject_, step, mesh), alone_, {});
  }
  std::unique_ptr<Subject> subject_;
  StepConfig step_;
  Training alone_;
};

TEST_P(AnyLayout, SharedStateEqualsOneRank) {
  StepConfig step = step_;
  for (const Shard shard : {Shard::kOptimizer, Shard::kGradients, Shard::kParameters})
    for (const auto& [replica, data, tensor] :
         {std::tuple(1, 2, 1), {1, 4, 2}, {2, 2, 1}, {4, 2, 1}, {2, 2, 2}}) {
      step.layout.shard = shard;
      expect_as_alone(step, mesh_of(replica, data, tensor));
    }
}

// Tokens are shared between products; 12 tokens over 8 ranks do not divide, and stay whole.
TEST_P(AnyLayout, SharedTokensEqualOneRank) {
  StepConfig step = step_;
  step.layout.sequence = true;
  for (const auto& [data, tensor] : {std::pair(1, 2), {2, 2}, {1, 4}, {2, 4}})
    expect_as_alone(step, mesh_of(1, data, tensor));
  step.layout.shard = Shard::kParameters;
  for (const auto& [replica, data] : {std::pair(1, 2), {2, 2}})
    expect_as_alone(step, mesh_of(replica, data, 2));
}

// Tokens of a sample over ranks; attention exchanges them for heads, where there are enough heads.
TEST_P(AnyLayout, ContextEqualsOneRank) {
  StepConfig step = step_;
  for (const auto& [data, context, tensor] :
       {std::tuple(1, 2, 1), {1, 4, 1}, {2, 2, 2}, {1, 3, 1}, {1, 2, 4}}) {
    step.layout.sequence = tensor == 2;
    expect_as_alone(step, {{{"data", data, 1}, {"context", context}, {"tensor", tensor}}});
  }
  step.layout.shard = Shard::kParameters;
  expect_as_alone(step, {{{"replica", 2, 1}, {"data", 2, 1}, {"context", 2}, {"tensor", 1}}});
}

// The same numbers, computed twice: the same bits.
TEST_P(AnyLayout, RecomputingChangesNoBit) {
  for (const Recompute what : {Recompute::kSelective, Recompute::kFull}) {
    StepConfig step = step_;
    step.recompute = what;
    expect_same_bits(train(*subject_, step, mesh_of(1, 1, 1)), alone_);
    step.layout = {.shard = Shard::kParameters, .sequence = true};
    expect_as_alone(step, mesh_of(1, 2, 2));
  }
}

// A layout and everything else that must not change what is computed.
struct Draw {
  Mesh mesh;
  StepConfig step;
};

// At most 16 ranks. Some sizes divide nothing of the models.
Draw draw(const StepConfig& base, std::uint64_t seed) {
  const RandomStream random(seed, "any layout");
  std::uint64_t number = 0;
  const auto pick = [&](auto... choices) {
    const std::array all{choices...};
    return all[random.below(number++, all.size())];
  };
  Draw drawn{.mesh = {}, .step = base};
  do {
    drawn.mesh = {{{"replica", pick(1, 1, 2), 1},
                   {"data", pick(1, 2, 4), 1},
                   {"context", pick(1, 1, 2, 3)},
                   {"tensor", pick(1, 2, 4)}}};
  } while (drawn.mesh.num_ranks() == 1 || drawn.mesh.num_ranks() > 16);
  drawn.step.layout = {.shard = pick(Shard::kNone, Shard::kOptimizer, Shard::kGradients, Shard::kParameters),
                       .sequence = pick(false, true)};
  drawn.step.recompute = pick(Recompute::kNone, Recompute::kSelective, Recompute::kFull);
  drawn.step.micro_batch = pick(1, drawn.mesh.data_ranks() < 8 ? 2 : 1);
  drawn.step.overlap = {.joins_update = pick(false, true),
                        .extra_bytes = pick(std::size_t{0}, std::size_t{1} << 20)};
  drawn.step.bucket_bytes = pick(std::size_t{0}, std::size_t{3000});
  return drawn;
}

TEST_P(AnyLayout, RandomDrawsEqualOneRank) {
  constexpr std::uint64_t kDraws = 6;
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) {
    const Draw drawn = draw(step_, seed);
    SCOPED_TRACE(concat("seed ", seed,
                        " recompute=", recompute_names()[static_cast<std::size_t>(drawn.step.recompute)],
                        " sequence=", drawn.step.layout.sequence, " micro_batch=", drawn.step.micro_batch,
                        " joins_update=", drawn.step.overlap.joins_update));
    expect_as_alone(drawn.step, drawn.mesh);
  }
}

// Source: Rajbhandari et al. 2020, section 5: what each stage leaves on one of d ranks.
TEST_P(AnyLayout, ARankKeepsItsShare) {
  const auto bytes = [&](Shard shard, int replica, int data, Role role) {
    StepConfig step = step_;
    step.layout.shard = shard;
    const StepPlan plan = compile_step(subject_->task(), step, mesh_of(replica, data, 1), 1);
    return static_cast<double>(plan.arena.bytes_by_role.at(role));
  };
  const auto expect_share = [&](Shard shard, Role role, double share) {
    for (const int replica : {1, 2}) {
      const double whole = bytes(Shard::kNone, 1, 1, role);
      EXPECT_NEAR(bytes(shard, replica, 4, role) / whole, share, 0.1 * share + 0.06)
          << shard_names()[static_cast<std::size_t>(shard)] << " " << name_of(role);
    }
  };
  for (const Shard shard : {Shard::kOptimizer, Shard::kGradients, Shard::kParameters}) {
    expect_share(shard, Role::kParameter, 0.25);
    expect_share(shard, Role::kAccumulator, shard >= Shard::kGradients ? 0.25 : 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, AnyLayout, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
