// Elementary functions: accuracy over their whole range, and what is not a number.
#include "core/ops/vector_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace takt {
namespace {

// Evaluated by the compiler, which refuses undefined behaviour: a NaN must not be converted to an integer on its way.
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
static_assert(exp_cephes(kNaN) != exp_cephes(kNaN));
static_assert(sigmoid_cephes(kNaN) != sigmoid_cephes(kNaN));
static_assert(exp_cephes(0.0f) == 1.0f);

TEST(ExpCephes, IsAccurateOverItsRange) {
  for (float x = -87.0f; x <= 88.0f; x += 0.0137f) {
    const double wanted = std::exp(static_cast<double>(x));
    ASSERT_NEAR(static_cast<double>(exp_cephes(x)) / wanted, 1.0, 2e-7) << "x = " << x;
  }
}

TEST(ExpCephes, StaysFiniteBeyondIt) {
  EXPECT_LT(exp_cephes(-1e30f), 1e-37f);
  EXPECT_GT(exp_cephes(1e30f), 1e38f);
  EXPECT_TRUE(std::isfinite(exp_cephes(std::numeric_limits<float>::infinity())));
}

}  // namespace
}  // namespace takt
