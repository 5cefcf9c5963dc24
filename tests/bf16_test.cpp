// Rounding to bf16: nearest, ties to even, and what is not a number stays none.
#include "core/base/bf16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/rng.h"

namespace takt {
namespace {

float through_bf16(float x) {
  return to_float(to_bf16(x));
}

TEST(BF16, KeepsWhatItCanHold) {
  for (std::uint32_t bits = 0; bits <= 0xFFFFu; ++bits) {
    const float x = to_float(BF16{static_cast<std::uint16_t>(bits)});
    if (std::isnan(x))
      EXPECT_TRUE(std::isnan(through_bf16(x))) << std::hex << bits;
    else
      EXPECT_EQ(to_bf16(x).bits, bits) << std::hex << bits;
  }
}

TEST(BF16, RoundsToTheNearest) {
  const RandomStream random(3, "floats");
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const auto x = static_cast<float>(random.normal(i));
    const BF16 y = to_bf16(x);
    for (const int neighbour : {-1, 1}) {
      const BF16 other{static_cast<std::uint16_t>(y.bits + neighbour)};
      ASSERT_LE(std::abs(to_float(y) - x), std::abs(to_float(other) - x)) << x;
    }
    ASSERT_LE(std::abs(to_float(y) - x), 0x1p-8f * std::abs(x));
  }
}

TEST(BF16, TiesGoToTheEvenNumber) {
  EXPECT_EQ(through_bf16(1.0f + 0x1p-8f), 1.0f);
  EXPECT_EQ(through_bf16(1.0f + 3 * 0x1p-8f), 1.0f + 0x1p-6f);
  EXPECT_EQ(through_bf16(-1.0f - 0x1p-8f), -1.0f);
}

TEST(BF16, NaNStaysNaNWhateverItsLowerBits) {
  for (const std::uint32_t bits : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0x7FC00000u})
    EXPECT_TRUE(std::isnan(through_bf16(std::bit_cast<float>(bits)))) << std::hex << bits;
  EXPECT_TRUE(std::isinf(through_bf16(std::numeric_limits<float>::max())));
}

}  // namespace
}  // namespace takt
