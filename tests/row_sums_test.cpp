// Sums over rows keep what single precision drops: thousands of rows, of which the first is large.
#include <gtest/gtest.h>

#include "core/ops/builders.h"
#include "tests/run_kernel.h"

namespace takt {
namespace {

// 2^24 and then ones: a float that holds 2^24 never moves when 1 is added.
constexpr std::int64_t kRows = 4097, kWidth = 3;
constexpr double kLarge = 0x1p24, kSum = kLarge + kRows - 1;

std::vector<double> large_first(std::int64_t width) {
  std::vector<double> rows(static_cast<std::size_t>(kRows * width), 1.0);
  std::fill(rows.begin(), rows.begin() + width, kLarge);
  return rows;
}

TEST(RowSums, EmbeddingGradKeepsSmallTermsAfterALargeOne) {
  const TensorDesc dy{{{"batch", kRows}, {"embed", kWidth}}, DType::kF32},
      tokens{{{"batch", kRows}}, DType::kI32};
  const Attrs attrs = {{"table", Dims{{"vocab", 4}, {"embed", kWidth}}}};
  const std::vector<double> second(static_cast<std::size_t>(kRows), 1.0);  // every token is number 1
  const auto table = run_kernel(embedding_grad_op(), attrs, {dy, tokens}, {large_first(kWidth), second})[0];
  for (std::size_t c = 0; c < kWidth; ++c) {
    EXPECT_EQ(table[c], 0.0);
    EXPECT_EQ(table[kWidth + c], kSum);
  }
}

// With x = 1, mean 0 and r = 1 the gradient of the weight is the sum of dy; so is that of the bias with mean 0.
TEST(RowSums, NormGradKeepsSmallTermsAfterALargeOne) {
  const TensorDesc x{{{"batch", kRows}, {"embed", kWidth}}, DType::kF32},
      weight{{{"embed", kWidth}}, DType::kF32}, row{{{"batch", kRows}}, DType::kF32};
  const std::vector<double> ones(static_cast<std::size_t>(kRows * kWidth), 1.0);
  const std::vector<double> mean(static_cast<std::size_t>(kRows), 0.0),
      rstd(static_cast<std::size_t>(kRows), 1.0);
  for (const bool centered : {false, true}) {
    const auto grads = run_kernel(norm_grad_op(), {{"centered", centered}}, {x, x, weight, row, row},
                                  {large_first(kWidth), ones, {1, 1, 1}, mean, rstd});
    for (std::size_t output = 1; output < grads.size(); ++output)
      for (const double sum : grads[output]) EXPECT_EQ(sum, kSum) << "output " << output;
  }
}

TEST(RowSums, ReduceKeepsSmallTermsAfterALargeOne) {
  const TensorDesc x{{{"batch", kRows}, {"embed", kWidth}}, DType::kF32};
  const Attrs attrs = {{"axes", AxisNames{"batch"}}, {"op", std::string("sum")}};
  const auto sums = run_kernel(reduce_op(), attrs, {x}, {large_first(kWidth)})[0];
  EXPECT_EQ(sums, std::vector<double>(kWidth, kSum));
}

}  // namespace
}  // namespace takt
