// sum_levels: the buffers, carried as the plan's actions say, leave the tree of collectives/reduce.h.
#include "core/passes/sum_levels.h"

#include <gtest/gtest.h>

#include <vector>

#include "collectives/reduce.h"
#include "core/base/rng.h"

namespace takt {
namespace {

// The sum over the leaves as the programs take it.
float sum_in_levels(const std::vector<float>& leaves) {
  std::vector<float> levels(static_cast<std::size_t>(num_levels(static_cast<std::int64_t>(leaves.size()))));
  for (std::size_t m = 0; m < leaves.size(); ++m) {
    levels[0] += leaves[m];
    if (m + 1 == leaves.size()) break;
    for (std::size_t l = 0;
         levels.size() > 1 && l < static_cast<std::size_t>(num_carries_after(static_cast<std::int64_t>(m)));
         ++l) {
      levels.at(l + 1) += levels[l];
      levels[l] = 0;
    }
  }
  for (std::size_t l = 1; l < levels.size(); ++l) levels[0] += levels[l];
  return levels[0];
}

TEST(SumLevels, MakeTheTreeOfCollectives) {
  const RandomStream random(1, "leaves");
  std::vector<float> leaves;
  for (std::uint64_t i = 0; i < 40; ++i) {
    leaves.push_back(random.normal(i));
    std::vector<ReduceTerm> terms;
    for (const float& leaf : leaves) terms.push_back({&leaf});
    float wanted = 0;
    reduce_in_tree_order(&wanted, terms, 1, DType::kF32, ReduceOp::kSum);
    EXPECT_EQ(sum_in_levels(leaves), wanted) << leaves.size() << " micro-batches";
  }
}

TEST(SumLevels, AreAsManyAsTheLogarithm) {
  EXPECT_EQ(num_levels(1), 1);
  EXPECT_EQ(num_levels(2), 1);
  EXPECT_EQ(num_levels(3), 2);
  EXPECT_EQ(num_levels(4), 2);
  EXPECT_EQ(num_levels(8), 3);
  EXPECT_EQ(num_levels(9), 4);
}

}  // namespace
}  // namespace takt
