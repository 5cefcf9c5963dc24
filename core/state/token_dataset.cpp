// Samples out of mapped token files. Checked once when opened, so that a wrong tokenizer is found before step
// 1 and not as a read beyond the embedding table.
#include "core/state/token_dataset.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/state/token_formats.h"

namespace takt {
namespace {

std::int64_t num_samples_of(const TokenDataset::Stream& stream, std::int64_t seq) {
  return std::max<std::int64_t>(0, stream.num_tokens - 1) / seq;
}

// Calls f with a null pointer of the type's C++ type.
template <class F>
void with_type(TokenType type, F&& f) {
  switch (type) {
    case TokenType::kU8:
      return f(static_cast<const std::uint8_t*>(nullptr));
    case TokenType::kI8:
      return f(static_cast<const std::int8_t*>(nullptr));
    case TokenType::kI16:
      return f(static_cast<const std::int16_t*>(nullptr));
    case TokenType::kU16:
      return f(static_cast<const std::uint16_t*>(nullptr));
    case TokenType::kI32:
      return f(static_cast<const std::int32_t*>(nullptr));
    case TokenType::kU32:
      return f(static_cast<const std::uint32_t*>(nullptr));
    case TokenType::kI64:
      return f(static_cast<const std::int64_t*>(nullptr));
  }
}

// Calls f with a pointer to the first token. Both headers and mmap keep tokens aligned to their size.
template <class F>
void with_tokens(const TokenDataset::Stream& stream, F&& f) {
  const std::byte* data = stream.file.bytes().data() + stream.offset;
  with_type(stream.type, [&]<class T>(const T*) { f(reinterpret_cast<const T*>(data)); });
}

void require_vocab(const TokenDataset::Stream& stream, std::int64_t vocab_size) {
  if (stream.num_tokens == 0) return;
  with_tokens(stream, [&]<class T>(const T* tokens) {
    const auto bad = std::find_if(tokens, tokens + stream.num_tokens, [&](T token) {
      return static_cast<std::int64_t>(token) < 0 || static_cast<std::int64_t>(token) >= vocab_size;
    });
    if (bad == tokens + stream.num_tokens) return;
    fail(Fault::kData, stream.path, ": token ", bad - tokens, " is ", static_cast<std::int64_t>(*bad),
         ", but the vocabulary has ", vocab_size,
         "\n  the dataset was built with another tokenizer: build it again with this one, or give its own");
  });
}

}  // namespace

TokenDataset TokenDataset::open(std::span<const std::string> paths, std::int64_t vocab_size) {
  if (paths.empty()) fail(Fault::kData, "dataset: no files are given, at least one is needed");
  TokenDataset dataset;
  for (const std::string& path : paths) {
    dataset.streams_.push_back(open_token_stream(path));
    require_vocab(dataset.streams_.back(), vocab_size);
  }
  return dataset;
}

std::int64_t TokenDataset::num_tokens() const {
  std::int64_t total = 0;
  for (const Stream& stream : streams_) total += stream.num_tokens;
  return total;
}

std::int64_t TokenDataset::num_samples(std::int64_t seq) const {
  TAKT_ASSERT(seq > 0, "dataset: samples of ", seq, " tokens");
  std::int64_t total = 0;
  for (const Stream& stream : streams_) total += num_samples_of(stream, seq);
  return total;
}

void TokenDataset::require_samples(std::int64_t seq) const {
  if (num_samples(seq) > 0) return;
  const auto longest =
      std::max_element(streams_.begin(), streams_.end(),
                       [](const Stream& a, const Stream& b) { return a.num_tokens < b.num_tokens; });
  fail(Fault::kData, longest->path, ": sequence longer than the data, a sample of seq ", seq, " takes ",
       seq + 1, " tokens, but the longest file has ", longest->num_tokens, "\n  set model.seq to at most ",
       std::max<std::int64_t>(0, longest->num_tokens - 1), ", or give more data");
}

void TokenDataset::sample(std::int64_t index, std::int64_t seq, std::int32_t* tokens,
                          std::int32_t* targets) const {
  TAKT_ASSERT(index >= 0 && index < num_samples(seq), "dataset: sample ", index, " of ", num_samples(seq));
  auto stream = streams_.begin();
  for (; index >= num_samples_of(*stream, seq); ++stream) index -= num_samples_of(*stream, seq);
  with_tokens(*stream, [&]<class T>(const T* all) {
    const T* first = all + index * seq;
    for (std::int64_t i = 0; i < seq; ++i) {
      tokens[i] = static_cast<std::int32_t>(first[i]);
      targets[i] = static_cast<std::int32_t>(first[i + 1]);
    }
  });
}

}  // namespace takt
