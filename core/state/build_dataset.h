// From text files to what a run reads: training tokens, validation tokens, tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace takt {

enum class TokenLayout { kLlmc, kMegatron };  // see token_dataset.h

struct BuildDatasetOptions {
  std::vector<std::string> texts;        // UTF-8 files, in the order in which they are read
  std::string prefix;                    // of what is written: <prefix>.train.bin, ...
  double valid_fraction = 0.05;          // of the bytes, from the end; 0: all of it is for training
  int vocab_size = 4096;                 // of the tokenizer to train
  std::optional<std::string> tokenizer;  // an existing tokenizer.json, instead of training one
  TokenLayout layout = TokenLayout::kLlmc;
  bool overwrite = false;
};

struct SplitReport {
  std::string path;  // as the job file's [data] takes it; empty if the split is
  std::int64_t num_tokens = 0;
  std::int64_t num_bytes = 0;  // of text
  double bytes_per_token() const;
};

struct BuildDatasetReport {
  SplitReport train;
  SplitReport valid;
  std::string tokenizer;  // path
  int vocab_size = 0;
};

// Writes <prefix>.train.bin, <prefix>.valid.bin (Megatron: each with its .idx) and <prefix>.tokenizer.json.
// The texts follow one another, each beginning on a line of its own. They are split at the end of a line, and
// the tokenizer is trained on the training part alone. Throws kData for a text that is missing, not UTF-8 or
// too short, kUsage if a file exists and may not be overwritten.
BuildDatasetReport build_dataset(const BuildDatasetOptions& options);

}  // namespace takt
