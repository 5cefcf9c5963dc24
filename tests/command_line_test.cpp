// Command lines become commands; wrong ones are usage errors that name what was probably meant.
#include "launch/command_line.h"

#include <gtest/gtest.h>

#include <CLI/App.hpp>

#include <algorithm>

#include "core/base/error.h"
#include "launch/registry.h"
#include "launch/run_options.h"

namespace takt {
namespace {

RunOptions last_options;  // what the last run of the stand-in command got

int run(const RunOptions& options, const CommandContext&) {
  last_options = options;
  return 7;
}

// A command of commands, as `takt data build` is.
void add_nested(CLI::App& app, RunOptions& options) {
  app.require_subcommand(1);
  add_run_options(*app.add_subcommand("build", "Builds."), options);
}

std::vector<Command> commands() {
  return {{.name = "data", .summary = "Data.", .prepare = with_options<RunOptions>(add_nested, run)},
          {.name = "plan", .summary = "Plans.", .prepare = with_options<RunOptions>(add_job_options, run)},
          {.name = "train",
           .summary = "Trains.",
           .prepare = with_options<RunOptions>(add_run_options, run),
           .needs_ranks = true}};
}

std::string refusal(const std::vector<std::string>& words) {
  try {
    parse_command_line(commands(), words);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kUsage);
    return error.what();
  }
  return "accepted";
}

TEST(CommandLine, OptionsReachTheCommand) {
  CommandLine line = parse_command_line(commands(), {"train", "--set", "a=[1, 2]", "--set", "b.c={d=1}",
                                                     "job.toml", "--steps", "5", "--out", "x", "--dry-run"});
  ASSERT_TRUE(line.invocation);
  EXPECT_TRUE(line.needs_ranks);
  EXPECT_EQ(line.invocation->run({}), 7);
  EXPECT_EQ(last_options.job_file, "job.toml");
  EXPECT_EQ(last_options.sets, (std::vector<std::string>{"a=[1, 2]", "b.c={d=1}"}));
  EXPECT_EQ(last_options.steps, 5);
  EXPECT_EQ(last_options.out, "x");
  EXPECT_EQ(last_options.resume, "auto");
  EXPECT_TRUE(last_options.dry_run);
}

TEST(CommandLine, HelpIsADoneCommand) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--help"}, {"train", "--help"}, {"train", "job.toml", "-h"}}) {
    const CommandLine line = parse_command_line(commands(), words);
    EXPECT_FALSE(line.invocation);
    EXPECT_EQ(line.exit_code, 0);
    EXPECT_NE(line.help.find(words.size() > 1 ? "--dry-run" : "Trains."), std::string::npos) << line.help;
  }
}

TEST(CommandLine, NoCommandIsHelpAndAUsageError) {
  const CommandLine line = parse_command_line(commands(), {});
  EXPECT_FALSE(line.invocation);
  EXPECT_EQ(line.exit_code, 64);
  EXPECT_NE(line.help.find("Trains."), std::string::npos);
}

TEST(CommandLine, WrongWordsAreNamedWithTheNearestRightOne) {
  EXPECT_EQ(refusal({"trian", "job.toml"}), "unknown command 'trian'\n  did you mean 'train'?");
  EXPECT_EQ(refusal({"frobnicate"}), "unknown command 'frobnicate'\n  'takt --help' shows what there is");
  EXPECT_EQ(refusal({"--halp"}), "takt: unknown flag '--halp'\n  did you mean '--help'?");
  EXPECT_EQ(refusal({"--plan"}), "takt: unknown flag '--plan'\n  did you mean 'plan'?");
  EXPECT_EQ(refusal({"train", "job.toml", "--stpes", "5"}),
            "takt train: unknown flag '--stpes'\n  did you mean '--steps'?");
  EXPECT_EQ(refusal({"train", "--stpes=5"}),
            "takt train: unknown flag '--stpes=5'\n  did you mean '--steps'?");
  EXPECT_EQ(refusal({"train", "job.toml", "other.toml"}),
            "takt train: unexpected argument 'other.toml'\n  'takt train --help' shows what there is");
  EXPECT_EQ(refusal({"train"}), "takt train: JOB is required\n  'takt train --help' shows what there is");
  EXPECT_EQ(refusal({"train", "job.toml", "--steps", "many"}),
            "takt train: Could not convert: --steps = many\n  'takt train --help' shows what there is");
}

// A wrong word of `takt data build` used to be ignored, and the dataset was another one than asked for.
TEST(CommandLine, WrongWordsOfACommandInACommandAreNamedToo) {
  EXPECT_EQ(refusal({"data", "build", "job.toml", "--stpes", "5"}),
            "takt data build: unknown flag '--stpes'\n  did you mean '--steps'?");
  EXPECT_EQ(
      refusal({"data", "build", "job.toml", "other.toml"}),
      "takt data build: unexpected argument 'other.toml'\n  'takt data build --help' shows what there is");
  EXPECT_EQ(refusal({"data", "build"}),
            "takt data build: JOB is required\n  'takt data build --help' shows what there is");
  EXPECT_EQ(refusal({"data", "biuld", "job.toml"}),
            "takt data: unknown command 'biuld'\n  did you mean 'build'?");
  EXPECT_TRUE(parse_command_line(commands(), {"data", "build", "job.toml", "--steps", "5"}).invocation);
}

TEST(CommandLine, StepsAndSetsBecomeOverrides) {
  RunOptions options;
  options.sets = {"seed=1"};
  options.steps = 3;
  const JobOverrides overrides = overrides_of(options, {"TAKT_SEED=2"});
  EXPECT_EQ(parse_job("", "job.toml", overrides).job.seed, 1u);
  EXPECT_EQ(parse_job("", "job.toml", overrides).job.train.steps, 3);
}

TEST(CommandLine, CommandsAreListedInAlphabeticalOrder) {
  const std::vector<Command> all = all_commands();
  EXPECT_TRUE(std::ranges::is_sorted(all, {}, &Command::name));
}

}  // namespace
}  // namespace takt
