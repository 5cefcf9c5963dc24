// BF16: a float without its lower 16 bits. Eight significant bits: rounding moves a number by at most 2^-8 of it (2^-9
// where its significand is close to 2).
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace takt {

struct BF16 {
  std::uint16_t bits = 0;
};

inline float to_float(float x) {
  return x;
}
inline float to_float(BF16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

// Rounds to nearest, ties to even. A NaN stays one: its upper bits are kept and made quiet.
inline BF16 to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = bits + 0x7FFFu + (bits >> 16 & 1u);
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return {static_cast<std::uint16_t>((is_nan ? bits | 0x00400000u : rounded) >> 16)};
}

// A float as stored in a tensor of T.
template <class T>
T stored(float x) {
  if constexpr (std::is_same_v<T, BF16>)
    return to_bf16(x);
  else
    return x;
}

}  // namespace takt
