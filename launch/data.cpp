// takt data build: from text files to training tokens, validation tokens and a tokenizer.
#include <fmt/format.h>
#include <glob.h>
#include <CLI/App.hpp>
#include <filesystem>
#include <iostream>

#include "core/base/error.h"
#include "core/base/units.h"
#include "core/state/build_dataset.h"
#include "launch/registry.h"

namespace takt {
namespace {

struct DataOptions {
  std::vector<std::string> texts;  // files or patterns
  BuildDatasetOptions build;
  std::string layout = "llmc";
};

void add_options(CLI::App& app, DataOptions& options) {
  CLI::App* build = app.add_subcommand("build", "Make a token dataset from UTF-8 texts");
  app.require_subcommand(1);
  build->add_option("--text", options.texts, "Text files, or patterns such as 'books/*.txt'")
      ->required()
      ->type_name("FILE...");
  build
      ->add_option("--out", options.build.prefix,
                   "Prefix of the files written: PREFIX.train.bin, PREFIX.valid.bin, PREFIX.tokenizer.json")
      ->required()
      ->type_name("PREFIX");
  build->add_option("--vocab", options.build.vocab_size, "Tokens of the tokenizer to train")
      ->capture_default_str()
      ->check(CLI::Range(257, 1 << 20));
  build->add_option("--tokenizer", options.build.tokenizer,
                    "Use this tokenizer.json instead of training one");
  build
      ->add_option("--valid", options.build.valid_fraction,
                   "Share of the text, from its end, kept for validation")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.9));
  build->add_option("--layout", options.layout, "llmc (.bin) or megatron (.bin and .idx)")
      ->capture_default_str()
      ->check(CLI::IsMember({"llmc", "megatron"}));
  build->add_flag("--overwrite", options.build.overwrite, "Replace files that exist");
}

void print_split(std::string_view name, const SplitReport& split) {
  if (split.path.empty()) return;
  std::cout << fmt::format("{:<6} {:<28} {:>8} tokens   {:>8} of text   {:.2f} bytes a token\n", name,
                           split.path, format_count(static_cast<double>(split.num_tokens)),
                           format_bytes(static_cast<std::uint64_t>(split.num_bytes)),
                           split.bytes_per_token());
}

// The files that a pattern names, in alphabetical order. A shell has mostly done it already; a name that
// exists is that file, whatever characters it has.
std::vector<std::string> files_matching(const std::string& pattern) {
  std::error_code error;
  if (pattern.find_first_of("*?[") == std::string::npos || std::filesystem::exists(pattern, error))
    return {pattern};
  glob_t found = {};
  const int result = ::glob(pattern.c_str(), GLOB_MARK, nullptr, &found);
  std::vector<std::string> files;
  for (std::size_t i = 0; result == 0 && i < found.gl_pathc; ++i) files.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  std::erase_if(files, [](const std::string& file) { return file.ends_with('/'); });
  if (files.empty()) fail(Fault::kData, "data build: --text ", pattern, ": no file has such a name");
  return files;
}

int run(const DataOptions& options, const CommandContext&) {
  BuildDatasetOptions build = options.build;
  for (const std::string& pattern : options.texts)
    for (std::string& file : files_matching(pattern)) build.texts.push_back(std::move(file));
  build.layout = options.layout == "megatron" ? TokenLayout::kMegatron : TokenLayout::kLlmc;
  const BuildDatasetReport report = build_dataset(build);
  print_split("train", report.train);
  print_split("valid", report.valid);
  std::cout << fmt::format("{:<6} {:<28} {:>8} entries\n", "tokens", report.tokenizer, report.vocab_size)
            << std::flush;
  return 0;
}

}  // namespace

Command data_command() {
  return {.name = "data",
          .summary = "Make token datasets",
          .prepare = with_options<DataOptions>(add_options, run)};
}

}  // namespace takt
