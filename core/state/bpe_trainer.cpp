// Byte-pair training: merge the most frequent pair of neighbouring tokens, over and over.
//
// Only distinct words are kept, each with its number of occurrences. Pair counts are kept up to date in the
// words that hold the merged pair, and a heap yields the next pair: its entries may be stale, and are
// corrected when they surface. Cost is thus proportional to the text once, and then to the words that change.
// Source: Sennrich et al. 2016, arXiv:1508.07909, section 3.2.
#include "core/state/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/state/pretokenizer.h"

namespace takt {
namespace {

constexpr int kNumBytes = 256;
// A longer word is counted in pieces, so that text without spaces costs no more than other text. Only what is
// learnt from depends on it, not how text is encoded.
constexpr std::size_t kMaxWordBytes = 256;

using Pair = std::pair<std::int32_t, std::int32_t>;

struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    const std::uint64_t key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(pair.first)) << 32 |
                              static_cast<std::uint32_t>(pair.second);
    return (key * 0x9E3779B97F4A7C15ull) >> 20;
  }
};

struct Word {
  std::vector<std::int32_t> tokens;
  std::int64_t count = 0;  // occurrences in the text
};

struct PairUse {
  std::int64_t count = 0;          // occurrences in the text
  std::vector<std::size_t> words;  // every word that holds it, and perhaps some that no longer do
};

struct Candidate {
  std::int64_t count;
  Pair pair;
  bool operator<(
      const Candidate& other) const {  // the top of the heap is the most frequent, then the lowest numbers
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// The distinct words of the text, in the order they are first met.
std::vector<Word> count_words(std::string_view text) {
  std::vector<Word> words;
  std::unordered_map<std::string_view, std::size_t> index;
  const auto add = [&](std::string_view word) {
    for (; !word.empty(); word.remove_prefix(std::min(word.size(), kMaxWordBytes))) {
      const std::string_view piece = word.substr(0, kMaxWordBytes);
      const auto [entry, is_new] = index.try_emplace(piece, words.size());
      if (is_new) {
        Word& added = words.emplace_back();
        for (const char c : piece) added.tokens.push_back(static_cast<unsigned char>(c));
      }
      ++words[entry->second].count;
    }
  };
  for_each_word(text, add, [] {});
  return words;
}

class Trainer {
 public:
  explicit Trainer(std::string_view text) : words_(count_words(text)) {
    for (int byte = 0; byte < kNumBytes; ++byte) {
      model_.tokens.emplace_back(1, static_cast<char>(byte));
      numbers_.emplace(model_.tokens.back(), byte);
    }
    for (std::size_t w = 0; w < words_.size(); ++w) count_pairs(w, +1);
    for (const auto& [pair, use] : uses_) candidates_.push({use.count, pair});
  }

  // Makes one more merge. False if no pair occurs twice.
  bool merge_next() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      const auto use = uses_.find(best.pair);
      const std::int64_t count = use == uses_.end() ? 0 : use->second.count;
      if (count < 2) continue;
      if (count == best.count) {
        merge(best.pair);
        return true;
      }
      if (count < best.count) candidates_.push({count, best.pair});  // a larger count has an entry of its own
    }
    return false;
  }

  int num_tokens() const { return static_cast<int>(model_.tokens.size()); }

  BpeModel finish() {
    model_.end_of_text = num_tokens();
    model_.tokens.emplace_back(kEndOfText);
    return std::move(model_);
  }

 private:
  // Adds the pairs of a word to the counts, or with sign -1 takes them off.
  void count_pairs(std::size_t w, std::int64_t sign) {
    const Word& word = words_[w];
    for (std::size_t i = 0; i + 1 < word.tokens.size(); ++i) {
      PairUse& use = uses_[{word.tokens[i], word.tokens[i + 1]}];
      use.count += sign * word.count;
      if (sign > 0 && (use.words.empty() || use.words.back() != w)) use.words.push_back(w);
    }
  }

  void merge(const Pair pair) {
    const std::string bytes = model_.tokens[pair.first] + model_.tokens[pair.second];
    // Two pairs may spell the same token (a+bc, ab+c): they share its number.
    const auto [entry, is_new] = numbers_.try_emplace(bytes, num_tokens());
    const std::int32_t merged = entry->second;
    if (is_new) model_.tokens.push_back(bytes);
    model_.merges.push_back({pair.first, pair.second, merged});

    std::vector<std::size_t> touched = std::move(uses_[pair].words);
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    std::vector<Pair> grown;
    for (const std::size_t w : touched) {
      count_pairs(w, -1);
      if (merge_in(words_[w].tokens, pair, merged)) collect_pairs_with(merged, words_[w].tokens, grown);
      count_pairs(w, +1);
    }
    uses_.erase(pair);
    std::sort(grown.begin(), grown.end());
    grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
    for (const Pair& p : grown)
      if (const auto use = uses_.find(p); use != uses_.end()) candidates_.push({use->second.count, p});
  }

  // Replaces the pair wherever it stands, from the left. False if it stands nowhere.
  static bool merge_in(std::vector<std::int32_t>& tokens, const Pair& pair, std::int32_t merged) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const bool here = i + 1 < tokens.size() && tokens[i] == pair.first && tokens[i + 1] == pair.second;
      tokens[kept++] = here ? merged : tokens[i];
      if (here) ++i;
    }
    const bool any = kept < tokens.size();
    tokens.resize(kept);
    return any;
  }

  // Only pairs with the merged token can have become more frequent.
  static void collect_pairs_with(std::int32_t merged, const std::vector<std::int32_t>& tokens,
                                 std::vector<Pair>& pairs) {
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i)
      if (tokens[i] == merged || tokens[i + 1] == merged) pairs.emplace_back(tokens[i], tokens[i + 1]);
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, PairUse, PairHash> uses_;
  std::priority_queue<Candidate> candidates_;
  std::unordered_map<std::string, std::int32_t> numbers_;  // of tokens, by their bytes
  BpeModel model_;
};

}  // namespace

Tokenizer train_bpe(std::string_view text, int vocab_size) {
  TAKT_REQUIRE(vocab_size > kNumBytes, "tokenizer: a vocabulary of ", vocab_size, " is too small, at least ",
               kNumBytes + 1, " are needed (one a byte, and ", kEndOfText, ")");
  Trainer trainer(text);
  while (trainer.num_tokens() + 1 < vocab_size)
    if (!trainer.merge_next())
      fail(Fault::kData, "tokenizer: a vocabulary of ", vocab_size, " cannot be learnt from this text of ",
           text.size(), " bytes, no pair of tokens occurs twice beyond ", trainer.num_tokens() + 1,
           "\n  choose a vocabulary of at most ", trainer.num_tokens() + 1, ", or train on more text");
  return Tokenizer(trainer.finish());
}

}  // namespace takt
