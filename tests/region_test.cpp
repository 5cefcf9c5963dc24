// Regions: whether they tile a tensor is decided as by counting every element.
#include "core/state/region.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace takt {
namespace {

using Shape = std::vector<std::int64_t>;

// Cuts the region in two at random, again and again.
std::vector<Region> random_tiling(const Region& whole, int num_cuts, std::mt19937& random) {
  std::vector<Region> regions = {whole};
  for (int cut = 0; cut < num_cuts; ++cut) {
    Region& first = regions[random() % regions.size()];
    const std::size_t d = random() % whole.extent.size();
    if (first.extent[d] < 2) continue;
    Region second = first;
    const auto length =
        1 + static_cast<std::int64_t>(random() % static_cast<std::size_t>(first.extent[d] - 1));
    first.extent[d] = length;
    second.offset[d] += length;
    second.extent[d] -= length;
    regions.push_back(second);
  }
  std::shuffle(regions.begin(), regions.end(), random);
  return regions;
}

// How many regions hold an element.
std::int64_t num_holding(const std::vector<Region>& regions, const Shape& element) {
  return std::count_if(regions.begin(), regions.end(), [&](const Region& region) {
    for (std::size_t d = 0; d < element.size(); ++d)
      if (element[d] < region.offset[d] || element[d] >= region.offset[d] + region.extent[d]) return false;
    return true;
  });
}

bool tiles(const std::vector<Region>& regions, const Shape& shape) {
  for (std::int64_t i = 0; i < volume(shape); ++i) {
    Shape element(shape.size());
    std::int64_t rest = i;
    for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) element[d] = rest % shape[d];
    if (num_holding(regions, element) != 1) return false;
  }
  return true;
}

void expect_decided_as_by_counting(const std::vector<Region>& regions, const Shape& shape) {
  const auto flaw = find_tiling_flaw(regions, shape);
  ASSERT_EQ(!flaw, tiles(regions, shape));
  if (!flaw) return;
  const std::int64_t num = num_holding(regions, flaw->element);
  EXPECT_TRUE(flaw->has_overlap ? num > 1 : num == 0) << num;
}

TEST(Regions, TileATensorOrTheFlawIsNamed) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    Shape shape(1 + random() % 4);
    for (std::int64_t& extent : shape) extent = 1 + static_cast<std::int64_t>(random() % 5);
    std::vector<Region> regions =
        random_tiling({Shape(shape.size(), 0), shape}, static_cast<int>(random() % 9), random);
    EXPECT_FALSE(find_tiling_flaw(regions, shape));
    Region& changed = regions[random() % regions.size()];
    const std::size_t d = random() % shape.size();
    switch (random() % 4) {
      case 0:
        regions.pop_back();
        break;
      case 1:
        regions.push_back(changed);
        break;
      case 2:  // moved: a hole and an overlap, with the right number of elements
        changed.offset[d] = (changed.offset[d] + 1) % (shape[d] - changed.extent[d] + 1);
        break;
      default:
        changed.extent[d] =
            1 + static_cast<std::int64_t>(random() % static_cast<std::size_t>(shape[d] - changed.offset[d]));
    }
    expect_decided_as_by_counting(regions, shape);
  }
}

TEST(Regions, OfScalarsAndEmptyTensors) {
  EXPECT_FALSE(find_tiling_flaw(std::vector<Region>{{{}, {}}}, Shape{}));
  EXPECT_TRUE(find_tiling_flaw(std::vector<Region>{}, Shape{}));
  EXPECT_TRUE(find_tiling_flaw(std::vector<Region>{{{}, {}}, {{}, {}}}, Shape{}));
  EXPECT_FALSE(find_tiling_flaw(std::vector<Region>{}, Shape{3, 0}));
}

// Rows over as many ranks as a large run has. Pairs would be 10^9.
TEST(Regions, ManyAreChecked) {
  constexpr std::int64_t kNumRegions = 50'000;
  std::vector<Region> regions;
  for (std::int64_t i = 0; i < kNumRegions; ++i) regions.push_back({{i, 0}, {1, 8}});
  EXPECT_FALSE(find_tiling_flaw(regions, Shape{kNumRegions, 8}));
  regions[77].extent[1] = 7;
  const auto flaw = find_tiling_flaw(regions, Shape{kNumRegions, 8});
  ASSERT_TRUE(flaw);
  EXPECT_EQ(flaw->element, (Shape{77, 7}));
  EXPECT_FALSE(flaw->has_overlap);
}

}  // namespace
}  // namespace takt
