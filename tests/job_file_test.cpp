// Job files: precedence, origins, and errors that point at the place.
#include "launch/job_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/base/error.h"
#include "launch/job_check.h"
#include "launch/job_task.h"
#include "launch/schema.h"

namespace takt {
namespace {

LoadedJob parsed(std::string_view text, const JobOverrides& overrides = {}) {
  return parse_job(text, "runs/job.toml", overrides);
}

template <class Action>
std::string error_of(const Action& action, Fault fault = Fault::kConfig) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), fault) << error.what();
    return error.what();
  }
  return "no error";
}

std::string error_of_text(std::string_view text) {
  return error_of([&] { parse_job(text, "job.toml", {}); });
}

std::string error_of_set(const std::string& set, Fault fault = Fault::kConfig) {
  return error_of([&] { parsed("", {.sets = {set}}); }, fault);
}

void expect_same(const Job& a, const Job& b) {
  for (const JobKey& key : job_keys()) EXPECT_EQ(key.get(a), key.get(b)) << key.name;
}

TEST(JobFile, AnEmptyFileIsAllDefaults) {
  expect_same(parsed("").job, Job{});
}

TEST(JobFile, TheExampleLoadsAndFits) {
  const LoadedJob loaded = load_job(TAKT_SOURCE_DIR "/examples/gpt/kjv.toml", {});
  check_job(loaded.job);
  EXPECT_EQ(loaded.job.optimizer.schedule.kind, "cosine");
  EXPECT_EQ(loaded.job.data.train, std::vector<std::string>{"data/kjv.train.bin"});
}

TEST(JobFile, FewestAndMostMultiprocessorsMustFit) {
  const auto check = [](std::vector<std::string> sets) {
    sets.push_back("data.train=a.bin");
    return error_of([&] { check_job(parsed("", {.sets = sets}).job); });
  };
  EXPECT_EQ(check({"nccl.min_ctas=4", "nccl.max_ctas=4"}), "no error");
  EXPECT_EQ(check({"nccl.min_ctas=4"}), "no error");
  EXPECT_EQ(check({"nccl.min_ctas=5", "nccl.max_ctas=4"}),
            "nccl.min_ctas is 5 but nccl.max_ctas is 4\n  wanted min_ctas <= max_ctas");
}

TEST(JobFile, LaterSourcesOverrideEarlierOnes) {
  const std::string_view file = "[train]\nsteps = 1\n";
  EXPECT_EQ(parsed(file).job.train.steps, 1);
  JobOverrides overrides{.environment = {"HOME=/root", "TAKT_TRAIN_STEPS=2"}};
  EXPECT_EQ(parsed(file, overrides).job.train.steps, 2);
  overrides.sets = {"train.steps=3", "train.steps=4"};
  EXPECT_EQ(parsed(file, overrides).job.train.steps, 4);
  overrides.flags = {{.flag = "--steps", .key = "train.steps", .value = "5"}};
  EXPECT_EQ(parsed(file, overrides).job.train.steps, 5);
}

TEST(JobFile, SetTakesTomlValuesAndBareWords) {
  const Job job =
      parsed("", {.sets = {"mesh.layout={tensor=2}", "optimizer.lr=1e-3", "model.init=runs/a b/final",
                           "name=2026", "data.train=a.bin", "data.valid=['b.bin', 'c.bin']",
                           "train.global_batch=32 samples", "optimizer.schedule={kind='wsd', warmup=7}"}})
          .job;
  EXPECT_FALSE(job.mesh.is_auto);
  EXPECT_EQ(job.mesh.tensor, 2);
  EXPECT_EQ(job.mesh.data, 0);
  EXPECT_EQ(job.optimizer.lr, 1e-3);
  EXPECT_EQ(job.model.init, "runs/a b/final");
  EXPECT_EQ(job.name, "2026");
  EXPECT_EQ(job.data.train, std::vector<std::string>{"a.bin"});
  EXPECT_EQ(job.data.valid.size(), 2u);
  EXPECT_EQ(job.train.global_batch_unit, "samples");
  EXPECT_EQ(job.optimizer.schedule.warmup, 7);
}

TEST(JobFile, EffectiveFileTellsOriginsAndLoadsToTheSameJob) {
  const LoadedJob loaded =
      parsed("name = \"a \\\"b\\\" # c\"\n[optimizer]\nlr = 0.1\nschedule = { kind = \"linear\" }\n",
             {.environment = {"TAKT_SEED=7"},
              .sets = {"mesh.layout={tensor=2}", "checkpoint.every=90s"},
              .flags = {{.flag = "--steps", .key = "train.steps", .value = "5"}}});
  const std::string text = effective_file(loaded);
  EXPECT_NE(text.find("lr = 0.1                                  # job.toml:3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("schedule.kind = \"linear\"                  # job.toml:4\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("seed = 7                                  # env TAKT_SEED\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("layout = { tensor = 2 }                   # --set\n"), std::string::npos) << text;
  EXPECT_NE(text.find("steps = 5                                 # --steps\n"), std::string::npos) << text;
  EXPECT_NE(text.find("keep = 3                                  # default\n"), std::string::npos) << text;
  expect_same(parsed(text).job, loaded.job);
}

TEST(JobFile, UnknownKeyPointsAtItAndSuggests) {
  EXPECT_EQ(error_of_text("\n[optimizer]\nlearning_rate = 6e-4\n"),
            "job.toml:3:1: unknown key 'optimizer.learning_rate'\n"
            "  3 | learning_rate = 6e-4\n"
            "    | ^~~~~~~~~~~~~ did you mean 'lr'?");
  EXPECT_EQ(error_of_text("[optimiser]\nlr = 1\n"),
            "job.toml:1:2: unknown key 'optimiser'\n"
            "  1 | [optimiser]\n"
            "    |  ^~~~~~~~~ did you mean 'optimizer'?");
}

TEST(JobFile, WrongValuesPointAtTheValueAndSayWhatWasWanted) {
  EXPECT_EQ(error_of_text("[optimizer]\nlr   = \"fast\"  # c\n"),
            "job.toml:2:8: optimizer.lr: wanted a number, above 0, got \"fast\"\n"
            "  2 | lr   = \"fast\"  # c\n"
            "    |        ^~~~~~");
  EXPECT_EQ(error_of_text("optimizer = { kind = \"adam\" }"),
            "job.toml:1:22: optimizer.kind: wanted one of \"adamw\", \"lamb\", \"lion\", \"muon\", \"sgd\", "
            "got \"adam\"\n"
            "  1 | optimizer = { kind = \"adam\" }\n"
            "    |                      ^~~~~~ did you mean \"adamw\"?");
  EXPECT_EQ(error_of_text("[train]\nglobal_batch = 8192"),
            "job.toml:2:16: train.global_batch: wanted \"8192 tokens\" or \"32 samples\", got 8192\n"
            "  2 | global_batch = 8192\n"
            "    |                ^~~~");
  EXPECT_EQ(error_of_text("optimizer = 3"),
            "job.toml:1:13: optimizer: wanted a table, got 3\n"
            "  1 | optimizer = 3\n"
            "    |             ^");
}

TEST(JobFile, CaretsStandUnderCharactersAfterTabsAndLettersOfManyBytes) {
  EXPECT_EQ(error_of_text("\t\"ü\" = 1\n"),
            "job.toml:1:2: unknown key 'ü'\n"
            "  1 | \t\"ü\" = 1\n"
            "    | \t^~~ 'takt keys' lists all keys");
}

TEST(JobFile, AValueOfSeveralLinesIsUnderlinedToTheEndOfItsFirst) {
  EXPECT_EQ(error_of_text("[optimizer]\nbetas = [0.9,\n 2.0]\n"),
            "job.toml:2:9: optimizer.betas: wanted a list of two numbers, each at least 0 and below 1, got "
            "[0.9, 2]\n"
            "  2 | betas = [0.9,\n"
            "    |         ^~~~~");
}

TEST(JobFile, WhatIsNotTomlIsPointedAt) {
  EXPECT_EQ(error_of_text("seed = 1\nseed = 2\n").rfind("job.toml:2:", 0), 0u);
  EXPECT_EQ(error_of_text("\n[train\n").rfind("job.toml:2:7: not TOML: ", 0), 0u);
  EXPECT_EQ(error_of_text("[=a]\n").rfind("job.toml:1:", 0), 0u);
  EXPECT_EQ(error_of_text("name = kjv").rfind("job.toml:1:8: not TOML: ", 0), 0u);
}

TEST(JobFile, TheFirstErrorOfTheTextIsTheOneShown) {
  EXPECT_EQ(error_of_text("zzz = 1\naaa = 2\n").rfind("job.toml:1:1: unknown key 'zzz'", 0), 0u);
}

TEST(JobFile, ControlCharactersOfAFileNeverReachTheTerminal) {
  const std::string message = error_of_text("\"\\u001b[2J\" = 1");
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
}

TEST(JobFile, OverridesAreNamedInTheirErrors) {
  EXPECT_EQ(error_of_set("optimizer.learning_rate=1"),
            "--set optimizer.learning_rate=1: unknown key 'optimizer.learning_rate'\n  did you mean 'lr'?");
  EXPECT_EQ(error_of_set("optimizer.lr=fast"),
            "--set optimizer.lr=fast: optimizer.lr: wanted a number, above 0, got \"fast\"");
  EXPECT_EQ(error_of_set("train.steps=1\nseed=3"),
            "--set train.steps=1?seed=3: train.steps: wanted a whole number, from 1 to 1000000000000, got "
            "\"1?seed=3\"");
  EXPECT_NE(error_of_set("name=\xff").find("not UTF-8"), std::string::npos);
  EXPECT_EQ(error_of_set("train.steps", Fault::kUsage),
            "--set train.steps: wanted KEY=VALUE\n  such as --set optimizer.lr=1e-3");
}

TEST(JobFile, UnknownVariablesOfOursAreErrorsAndOthersAreIgnored) {
  EXPECT_EQ(error_of([] { parsed("", {.environment = {"TAKT_OPTIMIZER_LRR=1"}}); }),
            "environment TAKT_OPTIMIZER_LRR: no key of the job file has this variable\n"
            "  did you mean TAKT_OPTIMIZER_LR?");
  EXPECT_EQ(error_of([] { parsed("", {.environment = {"TAKT_SEED=x"}}); }),
            "environment TAKT_SEED=x: seed: wanted a whole number, at least 0, got \"x\"");
  expect_same(parsed("", {.environment = {"TAKT_HOME=1", "OPTIMIZER_LR=1", "TAKT_"}}).job, Job{});
}

TEST(JobFile, KeysOfAnotherKindAreRefused) {
  EXPECT_EQ(
      error_of_text("[optimizer]\nkind = \"sgd\"\nbetas = [0.9, 0.99]\n"),
      "job.toml:3: optimizer.betas is for optimizer.kind \"adamw\" or \"lamb\" or \"muon\", this job has "
      "\"sgd\"\n"
      "  take it out: nothing would read it");
  EXPECT_EQ(
      error_of_set("optimizer.schedule.decay=5"),
      "--set: optimizer.schedule.decay is for optimizer.schedule.kind \"wsd\", this job has \"constant\"\n"
      "  take it out: nothing would read it");
  const std::vector<std::string> others = {"optimizer={kind='sgd',eps=1e-8}", "optimizer.momentum=0.5",
                                           "model={family='gpt2',rope_theta=10000}",
                                           "optimizer.schedule={kind='inverse_sqrt',final=0.1}"};
  for (const std::string& set : others)
    EXPECT_NE(error_of_set(set).find("nothing would read it"), std::string::npos) << set;
}

// A file's key was meant for the file's kind: who asks for another kind on the command line need not edit it.
TEST(JobFile, AKindOverruledByALaterSourceTakesItsKeysWithIt) {
  const std::string_view file = "[optimizer]\nkind = \"adamw\"\nbetas = [0.8, 0.9]\n";
  const LoadedJob loaded = parsed(file, {.sets = {"optimizer.kind=sgd", "optimizer.momentum=0.5"}});
  EXPECT_EQ(loaded.job.optimizer.betas, OptimizerConfig{}.betas);
  EXPECT_EQ(loaded.job.optimizer.momentum, 0.5);
  const std::string text = effective_file(loaded);
  EXPECT_EQ(text.find("betas"), std::string::npos) << text;
  EXPECT_EQ(text.find("schedule.decay"), std::string::npos) << text;
  expect_same(parsed(text).job, loaded.job);
  EXPECT_NE(error_of([&] {
              parsed(file, {.sets = {"optimizer.kind=sgd", "optimizer.betas=[0.8, 0.9]"}});
            }).find("nothing would read it"),
            std::string::npos);
}

// Effective files of earlier versions had every key in them, also those that have gone since.
TEST(JobFile, SavedJobsOfEarlierVersionsAreRead) {
  const std::string_view saved =
      "[data]\nkind = \"tokens\"\n[optimizer]\nkind = \"sgd\"\nbetas = [0.9, 0.95]\nmomentum = 0.5\n"
      "schedule.decay = 0\n[guard]\nnan = \"stop\"\n";
  const Job job = parse_saved_job(saved, "effective.toml").job;
  EXPECT_EQ(job.optimizer.momentum, 0.5);
  expect_same(parsed("[data]\nkind = \"tokens\"\n[guard]\nnan = \"stop\"\n").job, Job{});
  EXPECT_EQ(error_of_text("data = { kind = \"words\" }"),
            "job.toml:1:17: data.kind: wanted \"tokens\", the only one there is, got \"words\"\n"
            "  1 | data = { kind = \"words\" }\n"
            "    |                 ^~~~~~~ this key may be left out");
}

TEST(JobFile, FilesThatCannotBeReadAreConfigurationErrors) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("takt_job_file_test." + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  EXPECT_EQ(error_of([&] { load_job(folder / "none.toml", {}); }),
            "job file " + (folder / "none.toml").string() + " cannot be read: No such file or directory");
  EXPECT_EQ(error_of([&] { load_job(folder, {}); }),
            "job file " + folder.string() + " cannot be read: it is a directory");
  std::ofstream(folder / "large.toml") << std::string((1 << 20) + 1, '#');
  EXPECT_EQ(error_of([&] { load_job(folder / "large.toml", {}); }),
            "job file " + (folder / "large.toml").string() + " cannot be read: it is larger than 1 MiB");
  std::filesystem::remove_all(folder);
}

Job good_job() {
  Job job;
  job.data.train = {"a.bin"};
  job.settings["model.vocab"] = std::int64_t{64};
  return job;
}

// The whole way to a step; no data is opened.
StepConfig checked(const Job& job) {
  return step_config(job, make_task(job)->unit());
}

TEST(JobCheck, DefaultsWithDataPass) {
  EXPECT_EQ(checked(good_job()).global_batch, 32);
}

TEST(JobCheck, KeysThatContradictEachOtherAreRefused) {
  const auto refused = [](void (*change)(Job&)) {
    Job job = good_job();
    change(job);
    return error_of([&] { checked(job); });
  };
  const auto expect_says = [&](void (*change)(Job&), const std::string& words) {
    EXPECT_NE(refused(change).find(words), std::string::npos) << refused(change);
  };
  expect_says([](Job& j) { j.data.train.clear(); }, "data.train is missing");
  expect_says([](Job& j) { j.settings.clear(); }, "model.vocab is 0");
  expect_says([](Job& j) { j.eval.every = 5; }, "data.valid names no file");
  expect_says([](Job& j) { j.settings["model.embed"] = std::int64_t{250}; },
              "model.embed 250 is not a multiple of model.heads 4\n  nearest that fits: embed = 252");
  expect_says([](Job& j) { j.settings["model.kv_heads"] = std::int64_t{3}; }, "model.kv_heads 3");
  expect_says([](Job& j) { j.settings["model.embed"] = std::int64_t{12}; }, "wanted an even number");
  expect_says([](Job& j) { j.train.global_batch = 1000; },
              "train.global_batch 1000 tokens is not a multiple of a sample's 256 tokens\n"
              "  nearest that fits: \"1024 tokens\"");
  expect_says([](Job& j) { j.train.micro_batch = 5; }, "train.micro_batch 5");
  expect_says(
      [](Job& j) {
        j.train.global_batch_unit = "samples";
        j.train.global_batch = std::int64_t{1} << 62;
      },
      "2^40");
  expect_says([](Job& j) { j.optimizer.schedule.decay = 5; }, "no decay phase");
}

TEST(JobFile, AKeyOfAnotherModelIsRefused) {
  EXPECT_NE(error_of_text("[model]\nkind = \"mlp\"\nheads = 2\n")
                .find("model.heads is for model.kind \"gpt\", this job has \"mlp\""),
            std::string::npos);
  const LoadedJob loaded =
      parsed("[model]\nfamily = \"llama\"\nrope_theta = 3\n", {.sets = {"model.kind=mlp"}});
  EXPECT_EQ(effective_file(loaded).find("rope_theta"), std::string::npos);
  EXPECT_NE(error_of_text("[model]\nfamily = \"gpt2\"\nrope_theta = 3\n")
                .find("model.rope_theta is for model.family"),
            std::string::npos);
}

}  // namespace
}  // namespace takt
