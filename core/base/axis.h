// Axis: the name of a tensor dimension ("batch", "embed") or of a mesh axis ("data"), as a small value that is copied
// and compared like a number.
#pragma once

#include <array>
#include <bit>
#include <compare>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

#include "core/base/inline_vector.h"

namespace takt {

class Axis {
 public:
  static constexpr std::size_t kMaxLength = 15;

  constexpr Axis() = default;
  // Implicit: a name is an axis. Throws kBug for a name longer than kMaxLength.
  Axis(std::string_view name);
  Axis(const char* name) : Axis(std::string_view(name)) {}
  Axis(const std::string& name) : Axis(std::string_view(name)) {}

  std::string_view view() const { return text_.data(); }
  std::string str() const { return std::string(view()); }
  bool empty() const { return text_[0] == '\0'; }

  friend bool operator==(const Axis& a, const Axis& b) { return a.words() == b.words(); }
  friend std::strong_ordering operator<=>(const Axis& a, const Axis& b) { return a.words() <=> b.words(); }
  std::uint64_t hash() const { return words()[0] * 0x9E3779B97F4A7C15u ^ words()[1]; }

 private:
  std::array<std::uint64_t, 2> words() const { return std::bit_cast<std::array<std::uint64_t, 2>>(text_); }
  std::array<char, kMaxLength + 1> text_ = {};  // ends in zeros
};
std::ostream& operator<<(std::ostream& out, const Axis& axis);
std::string operator+(const std::string& text, const Axis& axis);
std::string operator+(const Axis& axis, const char* text);

inline constexpr std::size_t kMaxRank = 6;  // dimensions of a tensor
using AxisNames = InlineVector<Axis, kMaxRank>;

}  // namespace takt
