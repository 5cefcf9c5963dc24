// Tokenizer: text to token numbers and back, by byte-level byte-pair encoding.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace takt {

// Two neighbouring tokens that become one.
struct BpeMerge {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t merged = 0;
};

// What training yields and a file holds.
struct BpeModel {
  std::vector<std::string> tokens;  // the bytes of each token, by its number
  std::vector<BpeMerge> merges;     // the earlier, the sooner applied
  std::int32_t end_of_text = 0;     // the token that stands for kEndOfText
};

// Immutable, so it may be used from several threads.
class Tokenizer {
 public:
  // Throws kData where a byte or kEndOfText has no token, or a merge is given twice or does not join its two tokens.
  explicit Tokenizer(BpeModel model);

  // Reads a tokenizer.json of the Hugging Face `tokenizers` library, of the one kind that save() writes:
  // byte-level BPE over the words of pretokenizer.h. Throws kData for a missing or malformed file and
  // for every other kind.
  static Tokenizer load(const std::filesystem::path& path);
  // Written whole or not at all. Throws kIo where the file cannot be written.
  void save(const std::filesystem::path& path) const;

  // Any bytes, UTF-8 or not; decode gives the same bytes back. kEndOfText in the text becomes its token.
  std::vector<std::int32_t> encode(std::string_view text) const;
  // The bytes of the tokens one after another: not UTF-8 if the tokens end within a code point.
  // Throws kData for a number outside the vocabulary.
  std::string decode(std::span<const std::int32_t> tokens) const;

  int vocab_size() const { return static_cast<int>(model_.tokens.size()); }
  std::optional<int> end_of_text() const { return model_.end_of_text; }
  // How many bytes the token decodes to. Throws kData for a number outside the vocabulary.
  std::int64_t num_bytes(std::int32_t token) const;

 private:
  struct Rule {
    std::int32_t rank;
    std::int32_t merged;
  };
  const Rule* find_rule(std::int32_t left, std::int32_t right) const;
  // Appends the tokens of one word.
  void encode_word(std::string_view word, std::vector<std::int32_t>& tokens) const;

  BpeModel model_;
  std::array<std::int32_t, 256> byte_tokens_{};
  std::unordered_map<std::uint64_t, Rule> rules_;  // by pair of tokens
};

}  // namespace takt
