// Samples out of mapped token files. Checked once when opened, so that a wrong tokenizer is found before step
// 1 and not as a read beyond the embedding table.
#include "core/state/token_dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "collectives/agree.h"
#include "core/base/error.h"
#include "core/state/block_hash.h"
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

// Tokens that are checked and hashed at once.
struct Block {
  const TokenDataset::Stream* stream;
  std::int64_t first;
  std::int64_t num_tokens;
};
constexpr std::int64_t kBlockTokens = kHashBlockBytes / static_cast<std::int64_t>(sizeof(std::int32_t));

std::vector<Block> blocks_of(std::span<const TokenDataset::Stream> streams) {
  std::vector<Block> blocks;
  for (const TokenDataset::Stream& stream : streams)
    for (std::int64_t first = 0; first < stream.num_tokens; first += kBlockTokens)
      blocks.push_back({&stream, first, std::min(kBlockTokens, stream.num_tokens - first)});
  return blocks;
}

[[noreturn]] void refuse_token(const Block& block, std::int64_t at, std::int64_t token,
                               std::int64_t vocab_size) {
  fail(Fault::kData, block.stream->path, ": token ", block.first + at, " is ", token,
       ", but the vocabulary has ", vocab_size,
       "\n  the dataset was built with another tokenizer: build it again with this one, or give its own");
}

// As the numbers that samples hold, whatever type the file has. `tokens` has room for a block.
void read_checked(const Block& block, std::int64_t vocab_size, std::span<std::int32_t> tokens) {
  with_tokens(*block.stream, [&]<class T>(const T* all) {
    const T* stored = all + block.first;
    const auto end = static_cast<std::uint64_t>(vocab_size);
    bool any_bad = false;
    for (std::int64_t i = 0; i < block.num_tokens; ++i) {
      any_bad |= static_cast<std::uint64_t>(static_cast<std::int64_t>(stored[i])) >= end;
      tokens[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(stored[i]);
    }
    for (std::int64_t i = 0; any_bad && i < block.num_tokens; ++i)
      if (static_cast<std::uint64_t>(static_cast<std::int64_t>(stored[i])) >= end)
        refuse_token(block, i, static_cast<std::int64_t>(stored[i]), vocab_size);
  });
}

std::vector<TokenDataset::Stream> open_streams(std::span<const std::string> paths) {
  if (paths.empty()) fail(Fault::kData, "dataset: no files are given, at least one is needed");
  std::vector<TokenDataset::Stream> streams;
  for (const std::string& path : paths) streams.push_back(open_token_stream(path));
  return streams;
}

}  // namespace

TokenDataset TokenDataset::open(std::span<const std::string> paths, std::int64_t vocab_size) {
  TokenDataset dataset;
  dataset.streams_ = open_streams(paths);
  dataset.check_tokens(vocab_size, nullptr);
  return dataset;
}

TokenDataset TokenDataset::open(std::span<const std::string> paths, std::int64_t vocab_size,
                                Communicator& comm) {
  TokenDataset dataset;
  dataset.streams_ = agree(comm, [&] { return open_streams(paths); });
  dataset.check_tokens(vocab_size, &comm);
  return dataset;
}

void TokenDataset::check_tokens(std::int64_t vocab_size, Communicator* comm) {
  const std::vector<Block> blocks = blocks_of(streams_);
  std::string layout = "tokens of files:";
  for (const Stream& stream : streams_) layout += " " + std::to_string(stream.num_tokens);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(kBlockTokens));
  const auto hash_block = [&](std::int64_t number) {
    const Block& block = blocks[static_cast<std::size_t>(number)];
    read_checked(block, vocab_size, tokens);
    return XXH3_64bits(tokens.data(), static_cast<std::size_t>(block.num_tokens) * sizeof(std::int32_t));
  };
  content_hash_ = hash_blocks(layout, static_cast<std::int64_t>(blocks.size()), hash_block, comm);
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
  read(index, seq, 0, {tokens, static_cast<std::size_t>(seq)});
  read(index, seq, 1, {targets, static_cast<std::size_t>(seq)});
}

void TokenDataset::read(std::int64_t index, std::int64_t seq, std::int64_t shift,
                        std::span<std::int32_t> to) const {
  TAKT_ASSERT(index >= 0 && index < num_samples(seq), "dataset: sample ", index, " of ", num_samples(seq));
  auto stream = streams_.begin();
  for (; index >= num_samples_of(*stream, seq); ++stream) index -= num_samples_of(*stream, seq);
  with_tokens(*stream, [&]<class T>(const T* all) {
    const T* first = all + index * seq + shift;
    for (std::int64_t i = 0; i < seq; ++i)
      to[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(first[i]);
  });
}

}  // namespace takt
