// takt data build: from a text file to training tokens, validation tokens and a tokenizer.
#include <fmt/format.h>
#include <CLI/App.hpp>
#include <iostream>

#include "core/base/units.h"
#include "core/state/build_dataset.h"
#include "launch/registry.h"

namespace takt {
namespace {

struct DataOptions {
  BuildDatasetOptions build;
  std::string layout = "llmc";
};

void add_options(CLI::App& app, DataOptions& options) {
  CLI::App* build = app.add_subcommand("build", "Make a token dataset from a UTF-8 text");
  app.require_subcommand(1);
  build->add_option("--text", options.build.text, "The text file")->required();
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

int run(const DataOptions& options, const CommandContext&) {
  BuildDatasetOptions build = options.build;
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
