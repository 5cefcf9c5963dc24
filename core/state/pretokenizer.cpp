// kWordRegex by hand. Every byte from 0x80 on belongs to a non-ASCII code point and is thus part of a letter,
// so the cut works on bytes, and text that is not UTF-8 is cut too.
#include "core/state/pretokenizer.h"

#include <array>

namespace takt {
namespace {

enum class Kind : unsigned char { kOther, kLetter, kDigit, kWhite };

constexpr std::array<Kind, 256> kKinds = [] {
  std::array<Kind, 256> kinds{};
  for (std::size_t c = 0; c < kinds.size(); ++c) {
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c >= 0x80) kinds[c] = Kind::kLetter;
    if (c >= '0' && c <= '9') kinds[c] = Kind::kDigit;
    if ((c >= '\t' && c <= '\r') || c == ' ') kinds[c] = Kind::kWhite;
  }
  return kinds;
}();

Kind kind_of(char c) {
  return kKinds[static_cast<unsigned char>(c)];
}

}  // namespace

std::size_t end_of_word(std::string_view text, std::size_t begin) {
  constexpr std::size_t kMaxDigits = 3;
  // Past the one space a word may begin with.
  const std::size_t first = text[begin] == ' ' ? begin + 1 : begin;
  if (first < text.size() && kind_of(text[first]) != Kind::kWhite) {
    const Kind kind = kind_of(text[first]);
    std::size_t end = first + 1;
    while (end < text.size() && kind_of(text[end]) == kind &&
           (kind != Kind::kDigit || end - first < kMaxDigits))
      ++end;
    return end;
  }
  std::size_t end = begin + 1;
  while (end < text.size() && kind_of(text[end]) == Kind::kWhite) ++end;
  const bool word_follows = end < text.size();
  return word_follows && end - begin > 1 ? end - 1 : end;
}

}  // namespace takt
