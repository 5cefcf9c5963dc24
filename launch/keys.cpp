// takt keys: every key of the job file, from the schema. docs/job.md is its --markdown.
#include <CLI/App.hpp>
#include <iostream>

#include "launch/command.h"
#include "launch/registry.h"
#include "launch/schema.h"

namespace takt {
namespace {

struct KeysOptions {
  bool is_markdown = false;
};

void add_options(CLI::App& app, KeysOptions& options) {
  app.add_flag("--markdown", options.is_markdown, "As docs/job.md");
}

int run(const KeysOptions& options, const CommandContext&) {
  std::cout << (options.is_markdown ? job_keys_markdown() : job_keys_text()) << std::flush;
  return 0;
}

}  // namespace

Command keys_command() {
  return {.name = "keys",
          .summary = "List every key of the job file",
          .prepare = with_options<KeysOptions>(add_options, run)};
}

}  // namespace takt
