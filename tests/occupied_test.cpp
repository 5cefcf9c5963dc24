// Occupied against a look at every block that was taken, on random blocks.
#include "core/passes/occupied.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/rng.h"

namespace takt {
namespace {

struct Taken {
  std::size_t first, last, begin, end;
};

// The ends of blocks are the only places, besides 0, where a gap begins.
std::size_t lowest_free(const std::vector<Taken>& blocks, std::size_t first, std::size_t last,
                        std::size_t num_bytes) {
  std::vector<std::size_t> candidates = {0};
  for (const Taken& block : blocks) candidates.push_back(block.end);
  std::sort(candidates.begin(), candidates.end());
  const auto is_free = [&](std::size_t offset) {
    return std::none_of(blocks.begin(), blocks.end(), [&](const Taken& block) {
      return block.first <= last && first <= block.last && block.begin < offset + num_bytes &&
             offset < block.end;
    });
  };
  return *std::find_if(candidates.begin(), candidates.end(), is_free);
}

TEST(Occupied, FindsWhatALookAtEveryBlockFinds) {
  for (const std::size_t num_times : {1, 2, 7, 64, 100}) {
    const RandomStream random(num_times, "blocks");
    std::uint64_t num_drawn = 0;
    const auto below = [&](std::size_t bound) { return random.below(num_drawn++, bound); };
    Occupied occupied(num_times);
    std::vector<Taken> blocks;
    for (int i = 0; i < 300; ++i) {
      const std::size_t a = below(num_times), b = below(num_times), num_bytes = 1 + below(20);
      const std::size_t first = std::min(a, b), last = std::max(a, b);
      const std::size_t wanted = lowest_free(blocks, first, last, num_bytes);
      ASSERT_EQ(occupied.lowest_free(first, last, num_bytes), wanted)
          << "block " << i << " of " << num_times << " times";
      // Now and then beside the lowest place, so that there are gaps of all kinds.
      const std::size_t offset =
          below(4) == 0 ? lowest_free(blocks, first, last, num_bytes + 10) + 5 : wanted;
      occupied.take(first, last, offset, num_bytes);
      blocks.push_back({first, last, offset, offset + num_bytes});
    }
  }
}

TEST(Occupied, BlocksOfOtherTimesAreNotInTheWay) {
  Occupied occupied(8);
  occupied.take(2, 4, 0, 64);
  EXPECT_EQ(occupied.lowest_free(0, 1, 64), 0u);
  EXPECT_EQ(occupied.lowest_free(5, 7, 64), 0u);
  EXPECT_EQ(occupied.lowest_free(4, 4, 64), 64u);
}

TEST(Occupied, ABlockOfNoBytesTakesNothing) {
  Occupied occupied(4);
  occupied.take(0, 3, 0, 0);
  EXPECT_EQ(occupied.lowest_free(0, 3, 64), 0u);
}

}  // namespace
}  // namespace takt
