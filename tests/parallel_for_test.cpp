// Loops over independent items: each once, whatever the threads, and exceptions come out.
#include "core/ops/parallel_for.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace takt {
namespace {

TEST(ParallelFor, RunsEveryItemOnce) {
  for (const int num_threads : {1, 2, 3, 8}) {
    std::vector<int> runs(1000, 0);
    parallel_for(num_threads, 1000, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
    EXPECT_EQ(runs, std::vector<int>(1000, 1)) << num_threads << " threads";
  }
}

TEST(ParallelFor, ThrowsWhatTheFirstFailingItemThrew) {
  for (const int num_threads : {1, 2, 3, 8}) {
    const auto run = [&] {
      parallel_for(num_threads, 100, [](std::int64_t i) {
        if (i == 17 || i == 60 || i == 99) throw std::runtime_error("item " + std::to_string(i));
      });
    };
    EXPECT_THROW(
        {
          try {
            run();
          } catch (const std::runtime_error& error) {
            EXPECT_STREQ(error.what(), "item 17") << num_threads << " threads";
            throw;
          }
        },
        std::runtime_error);
  }
}

TEST(ParallelBlocks, CoverAllItemsWithoutOverlap) {
  constexpr std::int64_t kItems = 3 * (1 << 14) + 5;
  std::vector<int> runs(kItems, 0);
  parallel_blocks(2, kItems, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) ++runs[static_cast<std::size_t>(i)];
  });
  EXPECT_EQ(runs, std::vector<int>(kItems, 1));
}

}  // namespace
}  // namespace takt
