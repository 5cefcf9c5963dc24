// TokenDataset: files of token numbers, read in place as samples of a fixed length.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "core/state/mapped_file.h"

namespace takt {

enum class TokenType { kU8, kI8, kI16, kU16, kI32, kU32, kI64 };

// Two layouts are read and written, both little-endian:
//   llm.c     one file: 256 int32 (magic, version, number of tokens, zeros), then the tokens.
//             Magic 20240520, version 1: uint16. Magic 20240801, version 7: uint32.
//   Megatron  <prefix>.bin has the tokens alone; <prefix>.idx says their type and where each sequence begins.
// Sources: karpathy/llm.c dev/data/data_common.py; Megatron-LM megatron/core/datasets/indexed_dataset.py.
class TokenDataset {
 public:
  // Every entry is an llm.c file or a Megatron prefix. All tokens are read once, to check them. Throws kData
  // for a file that is missing, truncated or of another layout, and for a token that is not below `vocab_size`.
  static TokenDataset open(std::span<const std::string> paths, std::int64_t vocab_size);
  // The same where every rank opens the same files: each reads a slice of the tokens, and all throw the same
  // Error. Throws kConfig too, if the ranks see files of other sizes. Every rank of `comm` calls it,
  // outside of another agree().
  static TokenDataset open(std::span<const std::string> paths, std::int64_t vocab_size, Communicator& comm);

  std::int64_t num_tokens() const;
  // Of the tokens and of where files end. The layout of the files, their integer type and their names do not matter.
  std::uint64_t content_hash() const { return content_hash_; }
  // Samples of `seq` tokens, each with one more token as the last target. None reaches from one file into the next.
  std::int64_t num_samples(std::int64_t seq) const;
  // Throws kData if no file is long enough for one sample.
  void require_samples(std::int64_t seq) const;
  // Sample i of a file has its tokens i * seq to i * seq + seq - 1; targets are one further. Both outputs: [seq].
  void sample(std::int64_t index, std::int64_t seq, std::int32_t* tokens, std::int32_t* targets) const;
  // The tokens `shift` (0 or 1) further than those of sample `index` of `seq` tokens. to: [seq].
  void read(std::int64_t index, std::int64_t seq, std::int64_t shift, std::span<std::int32_t> to) const;

  // The tokens of one file, as the formats' readers hand them over.
  struct Stream {
    std::string path;
    MappedFile file;
    std::size_t offset = 0;  // of the first token, bytes
    TokenType type = TokenType::kU16;
    std::int64_t num_tokens = 0;
  };

 private:
  void check_tokens(std::int64_t vocab_size, Communicator* comm);

  std::vector<Stream> streams_;
  std::uint64_t content_hash_ = 0;
};

// Written whole or not at all. Both throw kData for a token outside the vocabulary, kIo where a file cannot be written.
//
// uint16 up to a vocabulary of 65536, else uint32. Throws kData for 2^31 tokens or more, which the header cannot say.
void write_llmc_bin(const std::string& path, std::span<const std::int32_t> tokens, std::int64_t vocab_size);
// uint16 up to a vocabulary of 65499, else int32. `sequence_lengths` add up to the number of tokens, and each
// sequence is a document; empty means a single one.
void write_megatron(const std::string& prefix, std::span<const std::int32_t> tokens, std::int64_t vocab_size,
                    std::span<const std::int64_t> sequence_lengths = {});

}  // namespace takt
