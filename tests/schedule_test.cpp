// Learning-rate schedules at the points where they are known, and the numbers the host hands to the update.
#include "optimizers/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

const std::vector<std::string> kKinds = {"constant", "linear", "cosine", "inverse_sqrt", "wsd"};

double at(const ScheduleConfig& schedule, std::int64_t step) {
  return schedule_factor(schedule, step, 100);
}

TEST(Schedule, WarmUpRisesLinearlyToOne) {
  for (const std::string& kind : kKinds) {
    const ScheduleConfig schedule{.kind = kind, .warmup = 10, .final = 0.1};
    for (int step = 1; step <= 10; ++step)
      EXPECT_DOUBLE_EQ(at(schedule, step), step / 10.0) << kind << ", step " << step;
  }
}

TEST(Schedule, NeverRisesAfterTheWarmUp) {
  for (const std::string& kind : kKinds)
    for (const std::int64_t warmup : {0, 10}) {
      const ScheduleConfig schedule{.kind = kind, .warmup = warmup, .final = 0.1};
      for (std::int64_t step = std::max<std::int64_t>(1, warmup); step < 120; ++step)
        EXPECT_LE(at(schedule, step + 1), at(schedule, step)) << kind << ", step " << step;
    }
}

TEST(Schedule, EndsAtTheFinalFractionAndStaysThere) {
  for (const std::string kind : {"linear", "cosine", "wsd"})
    for (const double final : {0.0, 0.1, 1.0}) {
      const ScheduleConfig schedule{.kind = kind, .warmup = 10, .final = final};
      EXPECT_NEAR(at(schedule, 100), final, 1e-15) << kind;
      EXPECT_NEAR(at(schedule, 1000), final, 1e-15) << kind;
    }
}

TEST(Schedule, ConstantStaysOne) {
  for (const std::int64_t step : {1, 50, 100, 1000}) EXPECT_EQ(at({.kind = "constant"}, step), 1.0);
}

TEST(Schedule, LinearAndCosineAreHalfWayInTheMiddle) {
  for (const std::string kind : {"linear", "cosine"}) {
    const ScheduleConfig schedule{.kind = kind, .warmup = 20, .final = 0.2};
    EXPECT_NEAR(at(schedule, 60), 0.6, 1e-15) << kind;
  }
  // A third of the way: 1/2 (1 + cos 60 degrees) = 3/4, where the line has 2/3.
  EXPECT_NEAR(at({.kind = "cosine", .warmup = 10}, 40), 0.75, 1e-15);
  EXPECT_NEAR(at({.kind = "linear", .warmup = 10}, 40), 2.0 / 3.0, 1e-15);
}

TEST(Schedule, InverseSqrtFallsWithTheRootOfTheStep) {
  const ScheduleConfig schedule{.kind = "inverse_sqrt", .warmup = 4};
  EXPECT_DOUBLE_EQ(at(schedule, 16), 0.5);
  EXPECT_DOUBLE_EQ(at(schedule, 64), 0.25);
  EXPECT_DOUBLE_EQ(at({.kind = "inverse_sqrt"}, 4), 0.5);
}

TEST(Schedule, WsdIsStableUntilTheDecay) {
  const ScheduleConfig explicit_decay{.kind = "wsd", .warmup = 10, .final = 0.5, .decay = 40};
  EXPECT_EQ(at(explicit_decay, 11), 1.0);
  EXPECT_EQ(at(explicit_decay, 60), 1.0);
  EXPECT_DOUBLE_EQ(at(explicit_decay, 70), 0.875);
  EXPECT_DOUBLE_EQ(at(explicit_decay, 80), 0.75);
  const ScheduleConfig a_fifth{.kind = "wsd", .warmup = 10};
  EXPECT_EQ(at(a_fifth, 80), 1.0);
  EXPECT_DOUBLE_EQ(at(a_fifth, 81), 0.95);
  EXPECT_DOUBLE_EQ(at(a_fifth, 90), 0.5);
}

TEST(Schedule, NamesTheKnownKinds) {
  try {
    at({.kind = "cosin"}, 5);
    FAIL() << "an unknown kind was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    for (const std::string part : {"'cosin'", "constant", "cosine", "inverse_sqrt", "linear", "wsd"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(StepHyper, CorrectsForTheZerosThatTheAveragesStartFrom) {
  const OptimizerConfig config{.lr = 1e-3, .betas = {0.9, 0.95}, .schedule = {}};
  EXPECT_FLOAT_EQ(hyper_at(config, 1, 100).correction1, 10.0f);
  EXPECT_FLOAT_EQ(hyper_at(config, 1, 100).correction2, 20.0f);
  EXPECT_FLOAT_EQ(hyper_at(config, 2, 100).correction1, static_cast<float>(1 / 0.19));    // 1 - 0.9^2
  EXPECT_FLOAT_EQ(hyper_at(config, 2, 100).correction2, static_cast<float>(1 / 0.0975));  // 1 - 0.95^2
  EXPECT_EQ(hyper_at(config, 1000000, 1000000).correction1, 1.0f);
  EXPECT_EQ(hyper_at(config, 1000000, 1000000).correction2, 1.0f);
}

TEST(StepHyper, CorrectsNothingWhereABetaIsZero) {
  const StepHyper hyper = hyper_at({.betas = {0.0, 0.95}, .schedule = {}}, 1, 100);
  EXPECT_EQ(hyper.correction1, 1.0f);
}

TEST(StepHyper, ScalesTheLearningRateByTheSchedule) {
  const OptimizerConfig config{.lr = 2e-3, .schedule = {.kind = "linear", .warmup = 10, .final = 0.1}};
  EXPECT_FLOAT_EQ(hyper_at(config, 1, 100).lr, 2e-4f);
  EXPECT_FLOAT_EQ(hyper_at(config, 10, 100).lr, 2e-3f);
  EXPECT_FLOAT_EQ(hyper_at(config, 55, 100).lr, 1.1e-3f);
  EXPECT_FLOAT_EQ(hyper_at(config, 100, 100).lr, 2e-4f);
}

}  // namespace
}  // namespace takt
