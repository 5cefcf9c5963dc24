// Products of one order: an element's bits depend on its row and its column, not on what else is computed or how it lies.
#include "core/ops/ordered_product.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "collectives/reduce.h"
#include "core/base/rng.h"
#include "core/device/onednn.h"

namespace takt {
namespace {

std::vector<float> random_matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const RandomStream random(3, name);
  std::vector<float> elements;
  for (std::int64_t i = 0; i < rows * columns; ++i)
    elements.push_back(random.normal(static_cast<std::uint64_t>(i)));
  return elements;
}

// Rows [first, first + count) of a matrix.
std::vector<float> rows_of(const std::vector<float>& matrix, std::int64_t width, std::int64_t first,
                           std::int64_t count) {
  return {matrix.begin() + first * width, matrix.begin() + (first + count) * width};
}

// Columns of a matrix, as a matrix.
std::vector<float> columns_of(const std::vector<float>& matrix, std::int64_t width, std::int64_t first,
                              std::int64_t count) {
  std::vector<float> columns;
  for (std::size_t row = 0; row < matrix.size() / static_cast<std::size_t>(width); ++row)
    for (std::int64_t c = first; c < first + count; ++c)
      columns.push_back(matrix[row * static_cast<std::size_t>(width) + static_cast<std::size_t>(c)]);
  return columns;
}

std::vector<float> transposed(const std::vector<float>& matrix, std::int64_t rows, std::int64_t columns) {
  std::vector<float> result(matrix.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      result[static_cast<std::size_t>(c * rows + r)] = matrix[static_cast<std::size_t>(r * columns + c)];
  return result;
}

std::vector<float> product(const MatmulShape& shape, const PiecedSum& sum, const std::vector<float>& a,
                           const std::vector<float>& b, int num_threads = 1) {
  const OrderedProduct ordered(shape, sum, num_threads);
  std::vector<float> y(static_cast<std::size_t>(shape.m * shape.n));
  std::vector<float> scratch(ordered.scratch_bytes() / sizeof(float));
  ordered.run(a.data(), b.data(), nullptr, y.data(), scratch.data());
  return y;
}

constexpr std::int64_t kM = 37, kN = 100, kK = 48;

TEST(OrderedProduct, AColumnIsTheSameInEveryWidthHeightStorageAndThread) {
  const std::vector<float> a = random_matrix("a", kM, kK), b = random_matrix("b", kK, kN);
  const PiecedSum sum{.extent = kK, .num_pieces = 4};
  const std::vector<float> y = product({.m = kM, .n = kN, .k = kK}, sum, a, b);
  EXPECT_EQ(product({.m = kM, .n = kN, .k = kK}, sum, a, b, 3), y);
  EXPECT_EQ(product({.m = kM, .n = kN, .k = kK, .transpose_a = true}, sum, transposed(a, kM, kK), b), y);
  EXPECT_EQ(product({.m = kM, .n = kN, .k = kK, .transpose_b = true}, sum, a, transposed(b, kK, kN)), y);
  for (const auto& [first, count] :
       {std::pair<std::int64_t, std::int64_t>(0, 50), {50, 50}, {25, 25}, {3, 1}})
    EXPECT_EQ(product({.m = kM, .n = count, .k = kK}, sum, a, columns_of(b, kN, first, count)),
              columns_of(y, kN, first, count));
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>(0, 12), {12, 25}, {5, 1}})
    EXPECT_EQ(product({.m = count, .n = kN, .k = kK}, sum, rows_of(a, kK, first, count), b),
              rows_of(y, kN, first, count));
}

// k lies as [2, 8 pieces, 3]: the pieces of one rank of `ranks`.
TEST(OrderedProduct, SumsOfRanksMakeTheSumOfOne) {
  const std::vector<float> a = random_matrix("a", kK, kM), b = random_matrix("b", kK, kN);  // a is [k, m]
  const auto on_rank = [&](std::int64_t rank, std::int64_t ranks) {
    std::vector<float> mine_a, mine_b;
    for (std::int64_t outer = 0; outer < 2; ++outer) {
      const std::int64_t first = outer * 24 + rank * 24 / ranks, count = 24 / ranks;
      const std::vector<float> part_a = rows_of(a, kM, first, count), part_b = rows_of(b, kN, first, count);
      mine_a.insert(mine_a.end(), part_a.begin(), part_a.end());
      mine_b.insert(mine_b.end(), part_b.begin(), part_b.end());
    }
    return product({.m = kM, .n = kN, .k = kK / ranks, .transpose_a = true},
                   {.outer = 2, .extent = 8 / ranks, .inner = 3, .num_pieces = 8 / ranks}, mine_a, mine_b);
  };
  const std::vector<float> alone = on_rank(0, 1);
  for (const std::int64_t ranks : {2, 4, 8}) {
    std::vector<std::vector<float>> parts;
    std::vector<ReduceTerm> terms;
    for (std::int64_t rank = 0; rank < ranks; ++rank) parts.push_back(on_rank(rank, ranks));
    for (const std::vector<float>& part : parts) terms.push_back({part.data()});
    std::vector<float> sum(alone.size());
    reduce_in_tree_order(sum.data(), terms, sum.size(), DType::kF32, ReduceOp::kSum);
    EXPECT_EQ(sum, alone) << ranks;
  }
}

TEST(OrderedProduct, IsTheProduct) {
  const std::vector<float> a = random_matrix("a", kM, kK), b = random_matrix("b", kK, kN);
  const std::vector<float> y = product({.m = kM, .n = kN, .k = kK}, {.extent = kK, .num_pieces = 8}, a, b);
  std::vector<float> small(y.size(), 1.0f), wanted(y.size(), 1.0f);
  ordered_sgemm(false, false, kM, kN, kK, 0.5f, a.data(), kK, b.data(), kN, 1.0f, small.data(), kN);
  onednn_sgemm(false, false, kM, kN, kK, 0.5f, a.data(), kK, b.data(), kN, 1.0f, wanted.data(), kN);
  for (std::size_t i = 0; i < y.size(); ++i) {
    double exact = 0;
    for (std::size_t k = 0; k < kK; ++k)
      exact += static_cast<double>(a[i / kN * kK + k]) * static_cast<double>(b[k * kN + i % kN]);
    EXPECT_NEAR(y[i], exact, 1e-5) << i;
    EXPECT_NEAR(small[i], wanted[i], 1e-5) << i;
  }
}

}  // namespace
}  // namespace takt
