// The data order: every sample once an epoch, in another order each time, from the cursor alone.
#include "core/state/data_order.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "core/base/error.h"

namespace takt {
namespace {

std::vector<std::int64_t> epoch_of(const DataOrder& order, std::int64_t num_samples, std::int64_t epoch) {
  std::vector<std::int64_t> samples;
  for (std::int64_t i = 0; i < num_samples; ++i) samples.push_back(order.at(epoch * num_samples + i));
  return samples;
}

TEST(DataOrder, VisitsEverySampleOnceAnEpoch) {
  for (const std::int64_t num_samples : {1, 2, 3, 7, 64, 1000}) {
    const DataOrder order(42, num_samples);
    for (const std::int64_t epoch : {0, 1, 5}) {
      const auto samples = epoch_of(order, num_samples, epoch);
      const std::set<std::int64_t> distinct(samples.begin(), samples.end());
      EXPECT_EQ(static_cast<std::int64_t>(distinct.size()), num_samples);
      EXPECT_EQ(*distinct.begin(), 0);
      EXPECT_EQ(*distinct.rbegin(), num_samples - 1);
    }
  }
}

TEST(DataOrder, DiffersByEpochAndBySeed) {
  EXPECT_NE(epoch_of(DataOrder(42, 100), 100, 0), epoch_of(DataOrder(42, 100), 100, 1));
  EXPECT_NE(epoch_of(DataOrder(42, 100), 100, 0), epoch_of(DataOrder(43, 100), 100, 0));
}

TEST(DataOrder, IsAFunctionOfTheCursorAlone) {
  const DataOrder order(42, 100), resumed(42, 100);
  for (std::int64_t consumed = 0; consumed < 150; ++consumed) order.at(consumed);
  EXPECT_EQ(resumed.at(150), order.at(150));
  EXPECT_EQ(resumed.epoch(150), 1);
}

TEST(DataOrder, MixesNeighbours) {
  const auto samples = epoch_of(DataOrder(42, 10000), 10000, 0);
  double distance = 0;  // of consecutive samples: a third of the range for a random order
  for (std::size_t i = 1; i < samples.size(); ++i)
    distance += static_cast<double>(std::abs(samples[i] - samples[i - 1]));
  EXPECT_NEAR(distance / 1e4 / 1e4, 1.0 / 3, 0.02);
}

TEST(DataOrder, NeedsSamples) {
  EXPECT_THROW(DataOrder(42, 0), Error);
  EXPECT_THROW(DataOrder(42, 10).at(-1), Error);
}

}  // namespace
}  // namespace takt
