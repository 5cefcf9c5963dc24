// exact_squares and digits_value: a sum of squares that nobody's order can change.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/rng.h"
#include "core/graph/graph.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

std::vector<float> run(const OpDef& op, const TensorDesc& in, const TensorDesc& out,
                       const std::vector<float>& x) {
  const std::string name = "y";
  const Attrs none;
  const Kernel kernel = op.cpu.prepare(KernelNode{{name, none, {in}, {out}}});
  std::vector<float> y(static_cast<std::size_t>(out.num_elements()));
  void *inputs[] = {const_cast<float*>(x.data())}, *outputs[] = {y.data()};
  kernel({.inputs = inputs, .outputs = outputs});
  return y;
}

const TensorDesc kDigits{{{"digit", 100}}};

std::vector<float> digits_of(const std::vector<float>& x) {
  return run(exact_squares_op(), {{{"embed", static_cast<std::int64_t>(x.size())}}}, kDigits, x);
}
float value_of(const std::vector<float>& digits) {
  return run(digits_value_op(), kDigits, {}, digits).front();
}

// From denormals to numbers whose squares f32 cannot hold.
std::vector<float> numbers_of_all_sizes() {
  const RandomStream random(2, "numbers");
  std::vector<float> x;
  for (std::uint64_t i = 0; i < 3000; ++i)
    x.push_back(std::ldexp(random.normal(2 * i), static_cast<int>(random.below(2 * i + 1, 270)) - 160));
  return x;
}

TEST(ExactSquares, DoNotDependOnOrderOrCut) {
  std::vector<float> x = numbers_of_all_sizes();
  const std::vector<float> digits = digits_of(x);
  for (const float digit : digits) EXPECT_TRUE(digit >= 0 && digit < 64 && digit == std::floor(digit));
  std::reverse(x.begin(), x.end());
  EXPECT_EQ(digits_of(x), digits);
  std::vector<float> sum(digits.size());
  for (std::size_t first = 0; first < x.size(); first += 500) {
    const std::vector<float> part = digits_of({x.begin() + static_cast<std::ptrdiff_t>(first),
                                               x.begin() + static_cast<std::ptrdiff_t>(first + 500)});
    for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += part[d];
  }
  EXPECT_EQ(value_of(sum), value_of(digits));
}

TEST(ExactSquares, AreTheSumOfSquares) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(value_of(digits_of({3.0f, -4.0f})), 25.0f);
  EXPECT_EQ(value_of(digits_of({0.0f, -0.0f})), 0.0f);
  EXPECT_EQ(digits_of({tiny})[0], 1.0f);
  EXPECT_EQ(value_of(digits_of({std::numeric_limits<float>::max()})), std::numeric_limits<float>::infinity());
  EXPECT_EQ(value_of(digits_of(std::vector<float>(1 << 20, 0.5f))), static_cast<float>(1 << 18));
  const RandomStream random(4, "x");
  std::vector<float> x;
  double wanted = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    x.push_back(random.normal(i));
    wanted += static_cast<double>(x.back()) * static_cast<double>(x.back());
  }
  EXPECT_EQ(value_of(digits_of(x)), static_cast<float>(wanted));
}

TEST(ExactSquares, ShowWhatIsNotFinite) {
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
    EXPECT_TRUE(std::isnan(value_of(digits_of({1.0f, bad, 2.0f}))));
}

}  // namespace
}  // namespace takt
