// Random numbers: the published Philox, streams that do not depend on each other, and true permutations.
#include "core/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "core/base/error.h"

namespace takt {
namespace {

// Source: Random123 1.14, tests/kat_vectors, "philox4x32 10".
TEST(Philox, GivesThePublishedAnswers) {
  using Counter = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, DependsOnSeedNameStepAndElement) {
  const std::set<std::uint64_t> distinct = {
      RandomStream(1, "a").bits(0),          RandomStream(2, "a").bits(0),
      RandomStream(1ull << 40, "a").bits(0), RandomStream(1, "b").bits(0),
      RandomStream(1, "a", 1).bits(0),       RandomStream(1, "a").bits(1),
      RandomStream(1, "a").bits(1ull << 40)};
  EXPECT_EQ(distinct.size(), 7u);
  EXPECT_EQ(RandomStream(1, "a", 3).bits(5), RandomStream(1, "a", 3).bits(5));
}

TEST(RandomStream, IsUniform) {
  const RandomStream stream(7, "uniform");
  constexpr int kDraws = 100000;
  std::vector<int> histogram(10);
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = stream.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    ++histogram[static_cast<std::size_t>(u * 10)];
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);  // 5 deviations of the mean
  for (const int draws : histogram) EXPECT_NEAR(draws, kDraws / 10, 500);
}

TEST(RandomStream, IsNormalWithMeanZeroAndDeviationOne) {
  const RandomStream stream(7, "normal");
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, previous = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    neighbours += x * previous;
    previous = x;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 0.016);  // each 5 deviations
  EXPECT_NEAR(squares / kDraws, 1.0, 0.023);
  EXPECT_NEAR(fourth / kDraws, 3.0, 0.16);
  EXPECT_NEAR(neighbours / kDraws, 0.0, 0.016);
}

TEST(RandomStream, StaysBelowItsBound) {
  const RandomStream stream(7, "below");
  std::vector<int> histogram(7);
  for (std::uint64_t i = 0; i < 70000; ++i) {
    const std::uint64_t x = stream.below(i, 7);
    ASSERT_LT(x, 7u);
    ++histogram[x];
  }
  for (const int draws : histogram) EXPECT_NEAR(draws, 10000, 500);
  EXPECT_EQ(stream.below(0, 1), 0u);
}

TEST(Permuted, IsABijection) {
  for (const std::uint64_t num_elements : {1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 5000}) {
    const RandomStream stream(3, "permutation");
    std::vector<bool> seen(num_elements);
    for (std::uint64_t i = 0; i < num_elements; ++i) {
      const std::uint64_t to = permuted(i, num_elements, stream);
      ASSERT_LT(to, num_elements);
      EXPECT_FALSE(seen[to]) << to << " of " << num_elements << " twice";
      seen[to] = true;
    }
  }
}

TEST(Permuted, ReachesEveryPositionEquallyOften) {
  std::vector<int> histogram(5);  // where element 0 of 5 goes
  for (std::uint32_t step = 0; step < 10000; ++step)
    ++histogram[permuted(0, 5, RandomStream(3, "permutation", step))];
  for (const int draws : histogram) EXPECT_NEAR(draws, 2000, 200);
}

TEST(Permuted, TakesVeryLargeDomains) {
  const RandomStream stream(3, "permutation");
  constexpr std::uint64_t kNumElements = 1ull << 40;
  std::set<std::uint64_t> distinct;
  for (std::uint64_t i = 0; i < 1000; ++i)
    distinct.insert(permuted(kNumElements - 1 - i, kNumElements, stream));
  EXPECT_EQ(distinct.size(), 1000u);
  EXPECT_LT(*distinct.rbegin(), kNumElements);
  EXPECT_THROW(permuted(5, 5, stream), Error);
}

}  // namespace
}  // namespace takt
