// `takt data build`. Nothing is written before the whole text has been encoded and decoded back without loss,
// and the tokenizer is written last: where it is, its datasets are.
#include "core/state/build_dataset.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/base/error.h"
#include "core/state/bpe_trainer.h"
#include "core/state/mapped_file.h"
#include "core/state/token_dataset.h"
#include "core/state/utf8.h"

namespace takt {
namespace {

std::string train_prefix(const BuildDatasetOptions& options) {
  return options.prefix + ".train";
}
std::string valid_prefix(const BuildDatasetOptions& options) {
  return options.prefix + ".valid";
}
std::string tokenizer_path(const BuildDatasetOptions& options) {
  return options.prefix + ".tokenizer.json";
}

void require_options(const BuildDatasetOptions& options) {
  if (!(options.valid_fraction >= 0 && options.valid_fraction < 1))
    fail(Fault::kUsage, "data build: the fraction for validation is ", options.valid_fraction,
         ", wanted 0 or more and less than 1");
  if (options.overwrite) return;
  std::vector<std::string> outputs = {tokenizer_path(options)};
  for (const std::string& prefix : {train_prefix(options), valid_prefix(options)})
    for (const char* suffix : {".bin", ".idx"}) outputs.push_back(prefix + suffix);
  std::error_code refused;  // then writing it says so
  for (const std::string& path : outputs)
    if (std::filesystem::exists(path, refused))
      fail(Fault::kUsage, "data build: ", path,
           " exists\n  choose another name, or allow it to be overwritten");
}

void require_text(const std::string& path, std::string_view text) {
  if (text.empty()) fail(Fault::kData, path, ": is empty, wanted UTF-8 text");
  const auto invalid = find_invalid_utf8(text);
  if (!invalid) return;
  const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*invalid), '\n') + 1;
  fail(Fault::kData, path, ":", line, ": is not UTF-8 at byte ", *invalid,
       "\n  convert it first, for example with `iconv -f latin1 -t utf-8`");
}

// All texts in a row. One of them is not copied.
class JoinedText {
 public:
  explicit JoinedText(const std::vector<std::string>& paths) {
    if (paths.empty()) fail(Fault::kUsage, "data build: no text is named, wanted at least one file");
    for (const std::string& path : paths) {
      files_.push_back(std::make_unique<MappedFile>(path));
      require_text(path, files_.back()->text());
    }
    if (files_.size() == 1) return;
    for (const auto& file : files_) {
      if (!joined_.empty() && joined_.back() != '\n') joined_ += '\n';
      joined_ += file->text();
    }
    files_.clear();
  }
  std::string_view text() const {
    return files_.empty() ? std::string_view(joined_) : files_.front()->text();
  }

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::string joined_;
};

// The number of bytes for training: to the end of the line in which the fraction for validation would begin.
std::size_t find_split(const BuildDatasetOptions& options, std::string_view text) {
  if (options.valid_fraction == 0) return text.size();
  const auto wanted =
      static_cast<std::size_t>(static_cast<double>(text.size()) * (1 - options.valid_fraction));
  const std::size_t newline = text.find('\n', wanted);
  if (newline == std::string_view::npos || newline + 1 == text.size())
    fail(Fault::kData, options.texts.back(), ": cannot be split, no line begins in the last ",
         options.valid_fraction * 100, " % of its ", text.size(), " bytes",
         "\n  take a larger fraction for validation, or break the text into lines");
  return newline + 1;
}

std::vector<std::int32_t> encode_checked(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> tokens = tokenizer.encode(text);
  TAKT_ASSERT(tokenizer.decode(tokens) == text, "the tokenizer does not give back the text it encoded");
  return tokens;
}

SplitReport write_split(const BuildDatasetOptions& options, const std::string& prefix, std::int64_t num_bytes,
                        const std::vector<std::int32_t>& tokens, int vocab_size) {
  SplitReport report = {prefix, static_cast<std::int64_t>(tokens.size()), num_bytes};
  if (options.layout == TokenLayout::kMegatron) {
    write_megatron(prefix, tokens, vocab_size);
  } else {
    report.path += ".bin";
    write_llmc_bin(report.path, tokens, vocab_size);
  }
  return report;
}

}  // namespace

double SplitReport::bytes_per_token() const {
  return num_tokens == 0 ? 0 : static_cast<double>(num_bytes) / static_cast<double>(num_tokens);
}

BuildDatasetReport build_dataset(const BuildDatasetOptions& options) {
  require_options(options);
  const JoinedText joined(options.texts);
  const std::string_view text = joined.text();
  const std::size_t split = find_split(options, text);
  const std::string_view train = text.substr(0, split), valid = text.substr(split);

  const Tokenizer tokenizer =
      options.tokenizer ? Tokenizer::load(*options.tokenizer) : train_bpe(train, options.vocab_size);
  const auto train_tokens = encode_checked(tokenizer, train), valid_tokens = encode_checked(tokenizer, valid);

  BuildDatasetReport report;
  report.vocab_size = tokenizer.vocab_size();
  report.train = write_split(options, train_prefix(options), static_cast<std::int64_t>(train.size()),
                             train_tokens, report.vocab_size);
  if (!valid.empty())
    report.valid = write_split(options, valid_prefix(options), static_cast<std::int64_t>(valid.size()),
                               valid_tokens, report.vocab_size);
  report.tokenizer = tokenizer_path(options);
  tokenizer.save(report.tokenizer);
  return report;
}

}  // namespace takt
