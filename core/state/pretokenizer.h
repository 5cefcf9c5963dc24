// How text is cut into words before byte pairs are merged; no token reaches over the end of a word.
#pragma once

#include <cstddef>
#include <string_view>

namespace takt {

// The token that ends a document, and the text that stands for it.
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// The same cut as a regular expression, as tokenizer.json carries it. In words, at each position the first
// of: letters, one to three digits, or other characters, each with at most one space in front; all white
// space but the last when a word follows; white space. Every non-ASCII code point is a letter, and white
// space is ASCII only, so that no Unicode tables are needed and other software cuts exactly as we do.
inline constexpr std::string_view kWordRegex =
    R"( ?[A-Za-z\x{80}-\x{10FFFF}]+| ?[0-9]{1,3}| ?[^A-Za-z0-9\t-\r \x{80}-\x{10FFFF}]+)"
    R"(|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+)";

// Where the word that begins at `begin` ends; `begin` < text.size().
std::size_t end_of_word(std::string_view text, std::size_t begin);

// Calls on_word(word) for every word and on_end_of_text() for every kEndOfText, in the order of the text.
template <class OnWord, class OnEndOfText>
void for_each_word(std::string_view text, OnWord&& on_word, OnEndOfText&& on_end_of_text) {
  while (true) {
    const std::size_t marker = text.find(kEndOfText);
    const std::string_view document = text.substr(0, marker);
    for (std::size_t begin = 0; begin < document.size();) {
      const std::size_t end = end_of_word(document, begin);
      on_word(document.substr(begin, end - begin));
      begin = end;
    }
    if (marker == std::string_view::npos) return;
    on_end_of_text();
    text.remove_prefix(marker + kEndOfText.size());
  }
}

}  // namespace takt
