// Encoding applies, within each word, the earliest merge of the list first and of equal ones the leftmost,
// until none applies. A heap of candidate pairs makes that n log n for a word of n bytes, so that a file
// which is one long word costs no more than others. Each distinct word of a text is encoded once. Source:
// Sennrich et al. 2016, arXiv:1508.07909; on bytes, Radford et al. 2019 (GPT-2).
#include "core/state/tokenizer.h"

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/state/pretokenizer.h"

namespace takt {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

// A token of a word that is being merged; the tokens are a list linked both ways. Absorbed ones have token -1.
struct Symbol {
  std::int32_t token;
  std::int32_t previous;
  std::int32_t next;
};

// The merge of symbol `position` with its right neighbour, as it was when the candidate was queued.
struct Candidate {
  std::int32_t rank;
  std::int32_t position;
  std::int32_t merged;
  bool operator>(const Candidate& other) const {
    return std::tie(rank, position) > std::tie(other.rank, other.position);
  }
};

}  // namespace

Tokenizer::Tokenizer(BpeModel model) : model_(std::move(model)) {
  const std::int32_t vocab = vocab_size();
  byte_tokens_.fill(-1);
  for (std::int32_t token = 0; token < vocab; ++token) {
    const std::string& bytes = model_.tokens[token];
    if (bytes.size() == 1) byte_tokens_[static_cast<unsigned char>(bytes[0])] = token;
  }
  for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte)
    if (byte_tokens_[byte] < 0) fail(Fault::kData, "tokenizer: no token stands for byte ", byte);
  if (model_.end_of_text < 0 || model_.end_of_text >= vocab ||
      model_.tokens[model_.end_of_text] != kEndOfText)
    fail(Fault::kData, "tokenizer: no token stands for ", kEndOfText);
  const auto known = [vocab](std::int32_t token) { return token >= 0 && token < vocab; };
  for (std::size_t rank = 0; rank < model_.merges.size(); ++rank) {
    const auto [left, right, merged] = model_.merges[rank];
    if (!known(left) || !known(right) || !known(merged) ||
        model_.tokens[left] + model_.tokens[right] != model_.tokens[merged])
      fail(Fault::kData, "tokenizer: merge ", rank, " (", left, " + ", right, ") does not make token ",
           merged);
    const Rule rule = {static_cast<std::int32_t>(rank), merged};
    if (!rules_.emplace(pair_key(left, right), rule).second)
      fail(Fault::kData, "tokenizer: merge ", rank, " (", left, " + ", right, ") is given twice");
  }
}

const Tokenizer::Rule* Tokenizer::find_rule(std::int32_t left, std::int32_t right) const {
  const auto found = rules_.find(pair_key(left, right));
  return found == rules_.end() ? nullptr : &found->second;
}

void Tokenizer::encode_word(std::string_view word, std::vector<std::int32_t>& tokens) const {
  const auto length = static_cast<std::int32_t>(word.size());
  std::vector<Symbol> symbols(word.size());
  for (std::int32_t i = 0; i < length; ++i)
    symbols[i] = {byte_tokens_[static_cast<unsigned char>(word[i])], i - 1, i + 1 < length ? i + 1 : -1};

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto push = [&](std::int32_t position) {
    if (position < 0 || symbols[position].next < 0) return;
    const Rule* rule = find_rule(symbols[position].token, symbols[symbols[position].next].token);
    if (rule) candidates.push({rule->rank, position, rule->merged});
  };
  for (std::int32_t i = 0; i < length; ++i) push(i);

  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.position];
    if (left.token < 0 || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Rule* rule = find_rule(left.token, right.token);
    if (!rule || rule->merged != best.merged) continue;  // one of the two has been merged since
    left.token = best.merged;
    right.token = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].previous = best.position;
    push(left.previous);
    push(best.position);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[i].next) tokens.push_back(symbols[i].token);
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  tokens.reserve(text.size() / 3);
  // Where each word's tokens stand in `tokens`, from the first time it was met.
  std::unordered_map<std::string_view, std::pair<std::size_t, std::size_t>> first_met;
  const auto add_word = [&](std::string_view word) {
    const std::size_t begin = tokens.size();
    const auto [entry, is_new] = first_met.try_emplace(word, begin, begin);
    if (is_new) {
      encode_word(word, tokens);
      entry->second.second = tokens.size();
      return;
    }
    for (std::size_t i = entry->second.first; i < entry->second.second; ++i) tokens.push_back(tokens[i]);
  };
  const auto add_end_of_text = [&] { tokens.push_back(model_.end_of_text); };
  for_each_word(text, add_word, add_end_of_text);
  return tokens;
}

std::int64_t Tokenizer::num_bytes(std::int32_t token) const {
  if (token < 0 || token >= vocab_size())
    fail(Fault::kData, "tokenizer: token ", token, " is outside the vocabulary of ", vocab_size());
  return static_cast<std::int64_t>(model_.tokens[token].size());
}

std::string Tokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) {
    if (token < 0 || token >= vocab_size())
      fail(Fault::kData, "tokenizer: token ", token, " is outside the vocabulary of ", vocab_size());
    text += model_.tokens[token];
  }
  return text;
}

}  // namespace takt
