// Elementary functions that compilers turn into vector code, unlike the C library's.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace takt {

// e^x to about 2e-7 relative, for any x; below -87 the result is about 1e-38. NaN stays NaN.
// Source: the Cephes library's range reduction x = n ln 2 + r and its degree-6 polynomial (Moshier 1989).
constexpr float exp_cephes(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  // Adding 1.5 x 2^23 rounds to an integer without a call, so that the loop vectorises.
  const float shifted = x * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // The lowest bits of `shifted` are n; the shift drops the others. No conversion, which NaN would not survive.
  const std::uint32_t exponent = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(exponent);
}

constexpr float sigmoid_cephes(float x) {
  return 1.0f / (1.0f + exp_cephes(-x));
}
constexpr float tanh_cephes(float x) {
  return 2.0f * sigmoid_cephes(2.0f * x) - 1.0f;
}

}  // namespace takt
