// Headers of token files, read and written. A file's size must be exactly what its header says: a copy that
// was cut short is the commonest fault of a dataset, and nothing else would notice it.
#include "core/state/token_formats.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <system_error>

#include "core/base/error.h"
#include "core/state/durable_file.h"

namespace takt {
namespace {

static_assert(std::endian::native == std::endian::little,
              "token files are read in place, and are little-endian");

// llm.c
constexpr std::size_t kLlmcHeaderWords = 256;  // int32
constexpr std::int32_t kLlmcMagicU16 = 20240520, kLlmcVersionU16 = 1;
constexpr std::int32_t kLlmcMagicU32 = 20240801, kLlmcVersionU32 = 7;
constexpr std::int64_t kLlmcMaxVocabU16 = 65536;

// Megatron: magic (9 bytes), u64 version, u8 type code, u64 sequences, u64 documents + 1; then int32 lengths,
// int64 byte offsets into .bin, int64 first sequence of each document and the end.
constexpr std::string_view kMegatronMagic("MMIDIDX\0\0", 9);
constexpr std::size_t kMegatronHeaderBytes = 9 + 8 + 1 + 8 + 8;
constexpr std::int64_t kMegatronVocabEndU16 = 65500;
constexpr std::uint8_t kMegatronCodeU16 = 8, kMegatronCodeI32 = 4;

template <class T>
T read_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

void require_size(const std::string& path, std::uint64_t actual, std::uint64_t expected) {
  if (actual == expected) return;
  fail(Fault::kData, path, ": has ", actual, " bytes, but its header says ", expected,
       actual < expected ? "\n  it is cut short: copy or build it again"
                         : "\n  it has bytes after its end: build it again");
}

std::optional<TokenType> megatron_type(std::uint8_t code) {
  switch (code) {
    case 1:
      return TokenType::kU8;
    case 2:
      return TokenType::kI8;
    case 3:
      return TokenType::kI16;
    case kMegatronCodeI32:
      return TokenType::kI32;
    case 5:
      return TokenType::kI64;
    case kMegatronCodeU16:
      return TokenType::kU16;
    default:
      return std::nullopt;  // 6 and 7 are floating
  }
}

TokenDataset::Stream open_llmc(const std::string& path) {
  TokenDataset::Stream stream = {path, MappedFile(path), kLlmcHeaderWords * 4};
  const auto bytes = stream.file.bytes();
  if (bytes.size() < stream.offset)
    fail(Fault::kData, path, ": has ", bytes.size(), " bytes, too few for the header of a token file (",
         stream.offset, ")");
  const auto magic = read_at<std::int32_t>(bytes, 0), version = read_at<std::int32_t>(bytes, 4);
  if (magic == kLlmcMagicU32 && version == kLlmcVersionU32)
    stream.type = TokenType::kU32;
  else if (magic != kLlmcMagicU16 || version != kLlmcVersionU16)
    fail(Fault::kData, path, ": is not a token file, it begins with ", magic, " version ", version,
         ", wanted ", kLlmcMagicU16, " version ", kLlmcVersionU16, " or ", kLlmcMagicU32, " version ",
         kLlmcVersionU32, "\n  give an llm.c .bin file, or a Megatron prefix without .bin and .idx");
  stream.num_tokens = read_at<std::int32_t>(bytes, 8);
  if (stream.num_tokens < 0) fail(Fault::kData, path, ": its header says ", stream.num_tokens, " tokens");
  require_size(path, bytes.size(), stream.offset + stream.num_tokens * num_bytes(stream.type));
  return stream;
}

// Checks that the sequences of an index lie in .bin one after another, and counts their tokens.
std::int64_t count_megatron_tokens(const std::string& path, std::span<const std::byte> index,
                                   std::uint64_t num_sequences, TokenType type) {
  const std::size_t pointers = kMegatronHeaderBytes + num_sequences * 4;
  std::int64_t num_tokens = 0;
  for (std::uint64_t i = 0; i < num_sequences; ++i) {
    const auto length = read_at<std::int32_t>(index, kMegatronHeaderBytes + i * 4);
    const auto pointer = read_at<std::int64_t>(index, pointers + i * 8);
    const auto expected = static_cast<std::int64_t>(num_tokens * num_bytes(type));
    if (length < 0) fail(Fault::kData, path, ": sequence ", i, " has length ", length);
    if (pointer != expected)
      fail(Fault::kData, path, ": sequence ", i, " begins at byte ", pointer, " of the .bin file, wanted ",
           expected,
           "\n  only sequences that lie one after another are supported: merge or build the dataset again");
    num_tokens += length;
  }
  return num_tokens;
}

TokenDataset::Stream open_megatron(const std::string& prefix) {
  const std::string index_path = prefix + ".idx";
  const MappedFile mapped(index_path);
  const auto index = mapped.bytes();
  if (index.size() < kMegatronHeaderBytes || !mapped.text().starts_with(kMegatronMagic))
    fail(Fault::kData, index_path, ": is not a Megatron index, it does not begin with MMIDIDX");
  if (const auto version = read_at<std::uint64_t>(index, 9); version != 1)
    fail(Fault::kData, index_path, ": has version ", version, ", wanted 1");
  const auto code = read_at<std::uint8_t>(index, 17);
  const auto type = megatron_type(code);
  if (!type)
    fail(Fault::kData, index_path, ": has element type ", int{code},
         ", wanted an integer type (1, 2, 3, 4, 5 or 8)");
  const auto num_sequences = read_at<std::uint64_t>(index, 18),
             num_documents = read_at<std::uint64_t>(index, 26);
  const std::uint64_t limit = index.size();  // no list has more entries than the file has bytes
  if (num_sequences > limit || num_documents > limit)
    fail(Fault::kData, index_path, ": has ", limit, " bytes, too few for ", num_sequences, " sequences in ",
         num_documents, " documents");
  require_size(index_path, limit, kMegatronHeaderBytes + num_sequences * 12 + num_documents * 8);

  TokenDataset::Stream stream = {prefix + ".bin", MappedFile(prefix + ".bin"), 0, *type};
  stream.num_tokens = count_megatron_tokens(index_path, index, num_sequences, *type);
  const std::uint64_t expected = stream.num_tokens * num_bytes(*type);
  if (stream.file.bytes().size() != expected)
    fail(Fault::kData, stream.path, ": has ", stream.file.bytes().size(), " bytes, but ", index_path,
         " says ", expected,
         "\n  one of the two is cut short or of another dataset: copy or build both again");
  return stream;
}

void require_tokens(const std::string& path, std::span<const std::int32_t> tokens, std::int64_t vocab_size) {
  const auto bad = std::find_if(tokens.begin(), tokens.end(),
                                [&](std::int32_t token) { return token < 0 || token >= vocab_size; });
  if (bad != tokens.end())
    fail(Fault::kData, path, ": token ", bad - tokens.begin(), " is ", *bad, ", but the vocabulary has ",
         vocab_size);
}

// Writes the tokens as T, some at a time.
template <class T>
void write_as(DurableFile& file, std::span<const std::int32_t> tokens) {
  constexpr std::size_t kTokensACall = 1 << 16;
  std::vector<T> converted;
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(tokens.size(), kTokensACall));
    converted.assign(part.size(), 0);
    std::transform(part.begin(), part.end(), converted.begin(),
                   [](std::int32_t t) { return static_cast<T>(t); });
    file.write(converted.data(), converted.size() * sizeof(T));
    tokens = tokens.subspan(part.size());
  }
}

template <class T>
void write_value(DurableFile& file, T value) {
  file.write(&value, sizeof(value));
}

void write_megatron_index(DurableFile& file, std::span<const std::int64_t> sequence_lengths, bool narrow) {
  const std::uint64_t num_sequences = sequence_lengths.size();
  file.write(kMegatronMagic);
  write_value<std::uint64_t>(file, 1);
  write_value(file, narrow ? kMegatronCodeU16 : kMegatronCodeI32);
  write_value(file, num_sequences);
  write_value(file, num_sequences + 1);
  for (const std::int64_t length : sequence_lengths) write_value(file, static_cast<std::int32_t>(length));
  std::int64_t pointer = 0;
  for (const std::int64_t length : sequence_lengths) {
    write_value(file, pointer);
    pointer += length * (narrow ? 2 : 4);
  }
  for (std::uint64_t i = 0; i <= num_sequences; ++i) write_value(file, static_cast<std::int64_t>(i));
}

}  // namespace

std::size_t num_bytes(TokenType type) {
  switch (type) {
    case TokenType::kU8:
    case TokenType::kI8:
      return 1;
    case TokenType::kI16:
    case TokenType::kU16:
      return 2;
    case TokenType::kI32:
    case TokenType::kU32:
      return 4;
    case TokenType::kI64:
      return 8;
  }
  TAKT_ASSERT(false, "token type ", static_cast<int>(type));
}

TokenDataset::Stream open_token_stream(const std::string& path) {
  std::error_code refused;  // then opening it says so
  if (std::filesystem::exists(path + ".idx", refused)) return open_megatron(path);
  if (!std::filesystem::exists(path, refused) && !refused)
    fail(Fault::kData, path, ": there is no such token file, and no Megatron dataset ", path, ".idx",
         "\n  build it with `takt data build`, or correct the job file's [data]");
  return open_llmc(path);
}

void write_llmc_bin(const std::string& path, std::span<const std::int32_t> tokens, std::int64_t vocab_size) {
  require_tokens(path, tokens, vocab_size);
  if (tokens.size() > std::numeric_limits<std::int32_t>::max())
    fail(Fault::kData, path, ": ", tokens.size(), " tokens are more than an llm.c file can hold (2147483647)",
         "\n  split the text into several datasets, or choose the Megatron layout");
  const bool narrow = vocab_size <= kLlmcMaxVocabU16;
  std::array<std::int32_t, kLlmcHeaderWords> header{};
  header[0] = narrow ? kLlmcMagicU16 : kLlmcMagicU32;
  header[1] = narrow ? kLlmcVersionU16 : kLlmcVersionU32;
  header[2] = static_cast<std::int32_t>(tokens.size());
  DurableFile file(path);
  file.write(header.data(), sizeof(header));
  narrow ? write_as<std::uint16_t>(file, tokens) : write_as<std::uint32_t>(file, tokens);
  file.commit();
}

void write_megatron(const std::string& prefix, std::span<const std::int32_t> tokens, std::int64_t vocab_size,
                    std::span<const std::int64_t> sequence_lengths) {
  require_tokens(prefix, tokens, vocab_size);
  const auto num_tokens = static_cast<std::int64_t>(tokens.size());
  if (sequence_lengths.empty()) sequence_lengths = {&num_tokens, 1};
  std::int64_t total = 0;
  for (const std::int64_t length : sequence_lengths) {
    if (length < 0 || length > std::numeric_limits<std::int32_t>::max())
      fail(Fault::kData, prefix, ": a sequence of ", length,
           " tokens, the Megatron layout holds 0 to 2147483647");
    total += length;
  }
  TAKT_ASSERT(total == num_tokens, prefix, ": sequences of ", total, " tokens in all, but there are ",
              num_tokens);

  const bool narrow = vocab_size < kMegatronVocabEndU16;
  DurableFile data(prefix + ".bin"), index(prefix + ".idx");
  narrow ? write_as<std::uint16_t>(data, tokens) : write_as<std::int32_t>(data, tokens);
  write_megatron_index(index, sequence_lengths, narrow);
  data.commit();
  index.commit();
}

}  // namespace takt
