// metrics.jsonl, summary.json and the run directory: nothing is lost, doubled or overwritten.
#include "core/state/metrics.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "core/base/error.h"
#include "core/state/run_directory.h"
#include "core/state/run_lock.h"

namespace takt {
namespace {

using std::filesystem::path;

path fresh_directory() {
  const path directory = testing::TempDir() + "/takt-metrics-" + random_suffix();
  std::filesystem::create_directories(directory);
  return directory;
}

std::string contents(const path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

StepMetrics metrics_of(std::int64_t step) {
  return {
      .step = step, .time_s = 0.5 * static_cast<double>(step), .loss = 1.0 / static_cast<double>(step + 2)};
}

void write_steps(const path& file, std::int64_t first, std::int64_t last) {
  MetricsWriter writer(file, first - 1);
  for (std::int64_t step = first; step <= last; ++step) {
    writer.write(metrics_of(step));
    if (step % 2 == 0) writer.write(ValidMetrics{step, 3.5});
  }
}

TEST(Metrics, ALineHasTheDocumentedFields) {
  const path file = fresh_directory() / "metrics.jsonl";
  MetricsWriter writer(file, 0);
  writer.write({.step = 1,
                .time_s = 0.561,
                .loss = 0.1,
                .grad_norm = 7.5,
                .lr = 6e-6,
                .units = 8192,
                .step_ms = 561,
                .units_per_s = 14600,
                .tflops_per_rank = 0.25,
                .mfu = 0.374,
                .comm_ms = 61.5,
                .comm_exposed_ms = 17.25,
                .mem_peak_bytes = 429496730});
  writer.write(ValidMetrics{1, 5.0917});
  EXPECT_EQ(contents(file),
            "{\"step\":1,\"time\":0.561,\"loss\":0.1,\"grad_norm\":7.5,\"lr\":6e-06,\"tokens\":8192,\"step_"
            "ms\":561.0,"
            "\"tokens_per_s\":14600.0,\"tflops_per_rank\":0.25,\"mfu\":0.374,\"comm_ms\":61.5,"
            "\"comm_exposed_ms\":17.25,\"mem_peak_bytes\":429496730}\n"
            "{\"step\":1,\"valid_loss\":5.0917}\n");
}

TEST(Metrics, DoublesReadBackAsTheSameDouble) {
  const path file = fresh_directory() / "metrics.jsonl";
  const double loss = 3.3121987654321098;
  MetricsWriter(file, 0).write(ValidMetrics{1, loss});
  const std::string text = contents(file);
  EXPECT_EQ(std::stod(text.substr(text.rfind(':') + 1)), loss);
}

TEST(Metrics, AnUnknownPeakLeavesMfuOutAndNanIsNull) {
  const path file = fresh_directory() / "metrics.jsonl";
  StepMetrics metrics = metrics_of(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  MetricsWriter(file, 0).write(metrics);
  EXPECT_EQ(contents(file).find("mfu"), std::string::npos);
  EXPECT_NE(contents(file).find("\"loss\":null"), std::string::npos);
}

TEST(Metrics, AResumedRunEqualsAnUninterruptedOne) {
  const path directory = fresh_directory();
  write_steps(directory / "whole.jsonl", 1, 9);
  const path resumed = directory / "resumed.jsonl";
  write_steps(resumed, 1, 7);
  std::ofstream(resumed, std::ios::app) << "{\"step\":8,\"ti";  // torn by a crash
  write_steps(resumed, 5, 9);
  EXPECT_EQ(contents(resumed), contents(directory / "whole.jsonl"));
}

TEST(Metrics, ATornLineIsDroppedEvenIfItLooksWhole) {
  const path file = fresh_directory() / "metrics.jsonl";
  std::ofstream(file) << "{\"step\":1}\n{\"step\":2}";
  MetricsWriter writer(file, 5);
  EXPECT_EQ(contents(file), "{\"step\":1}\n");
}

TEST(Metrics, AForeignLineIsNamed) {
  const path file = fresh_directory() / "metrics.jsonl";
  std::ofstream(file) << "{\"step\":1}\nhello\n{\"step\":2}\n";
  try {
    MetricsWriter writer(file, 5);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kData);
    EXPECT_NE(std::string(error.what()).find("metrics.jsonl:2:"), std::string::npos) << error.what();
  }
  EXPECT_NE(contents(file).find("hello"), std::string::npos);
}

TEST(Metrics, TheSummaryIsReplacedWhole) {
  const path file = fresh_directory() / "summary.json";
  RunSummary summary{.name = "kjv", .steps = 10, .units = 81920, .time_s = 1.5, .loss = 3.25};
  write_summary(file, summary);
  EXPECT_EQ(contents(file).find("valid_loss"), std::string::npos);
  summary.valid_loss = 3.5;
  summary.valid_figures = {{"bits_per_byte", 1.25}};
  summary.units_per_s = 100;
  summary.ranks = 4;
  summary.mesh = "data=4";
  summary.weights_hash = 0xF3;
  summary.exit = 75;
  write_summary(file, summary);
  EXPECT_EQ(contents(file),
            "{\n  \"name\": \"kjv\",\n  \"steps\": 10,\n  \"tokens\": 81920,\n  \"time_s\": 1.5,\n  "
            "\"loss\": 3.25,\n"
            "  \"valid_loss\": 3.5,\n  \"valid_bits_per_byte\": 1.25,\n  \"tokens_per_s\": 100.0,\n  "
            "\"ranks\": 4,\n"
            "  \"mesh\": \"data=4\",\n  \"weights_hash\": \"00000000000000f3\",\n  \"exit\": 75\n}\n");
}

TEST(Metrics, TheNumbersOfAStepAreFoundAgain) {
  const std::filesystem::path file = fresh_directory() / "metrics.jsonl";
  EXPECT_EQ(number_of_step(file, 1, "loss"), std::nullopt);
  MetricsWriter writer(file, 0);
  writer.write(StepMetrics{.step = 1, .loss = 2.5});
  writer.write(StepMetrics{.step = 2, .loss = 1.25});
  writer.write(ValidMetrics{.step = 2, .valid_loss = 9});
  EXPECT_EQ(number_of_step(file, 2, "loss"), 1.25);
  EXPECT_EQ(number_of_step(file, 2, "valid_loss"), 9.0);
  EXPECT_EQ(number_of_step(file, 3, "loss"), std::nullopt);
}

TEST(RunDirectory, OneProcessAtATimeHoldsItsLock) {
  const std::filesystem::path directory = fresh_directory();
  auto first = std::make_unique<RunLock>(directory);
  EXPECT_TRUE(first->is_held());
  try {
    RunLock second(directory);
    ADD_FAILURE() << "two locks";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kUsage);
    EXPECT_NE(std::string(error.what()).find("process " + std::to_string(::getpid())), std::string::npos)
        << error.what();
  }
  first.reset();
  EXPECT_TRUE(RunLock(directory).is_held());
}

TEST(RunDirectory, WhatIsSetAsideKeepsItsContents) {
  const std::filesystem::path file = fresh_directory() / "metrics.jsonl";
  EXPECT_TRUE(set_aside(file).empty());
  for (const int number : {2, 3}) {
    write_file_atomically(file, "lines " + std::to_string(number));
    const std::filesystem::path kept = set_aside(file);
    EXPECT_EQ(kept, file.parent_path() / ("metrics." + std::to_string(number) + ".jsonl"));
    EXPECT_EQ(read_text_file(kept, 100), "lines " + std::to_string(number));
    EXPECT_FALSE(std::filesystem::exists(file));
  }
}

TEST(RunDirectory, TwoRunsOfOneSecondGetTwoDirectories) {
  const path runs = fresh_directory() / "runs";
  const std::string time = run_timestamp(1795523405);
  EXPECT_EQ(time, "2026-11-24T12-30-05");
  EXPECT_EQ(create_run_directory(runs, "kjv", time).path, runs / ("kjv." + time));
  EXPECT_EQ(create_run_directory(runs, "kjv", time).path, runs / ("kjv." + time + ".2"));
}

TEST(RunDirectory, ANamedDirectoryIsMadeOrReused) {
  const path directory = fresh_directory() / "out";
  EXPECT_TRUE(open_run_directory(directory).is_new);
  EXPECT_FALSE(open_run_directory(directory).is_new);
}

TEST(RunDirectory, DescriptionsOfAnEarlierRunAreKept) {
  const RunDirectory run = open_run_directory(fresh_directory() / "out");
  RunDescription description{"name = \"kjv\"\n", "seed = 42\n", "takt train job.toml", {{"mpi", "Open MPI"}}};
  describe_run(run, description);
  describe_run(run, description);
  EXPECT_FALSE(std::filesystem::exists(run.path / "effective.2.toml"));
  description.effective_job = "seed = 43\n";
  describe_run(run, description);
  EXPECT_EQ(contents(run.path / "effective.toml"), "seed = 42\n");
  EXPECT_EQ(contents(run.path / "effective.2.toml"), "seed = 43\n");
  EXPECT_EQ(contents(run.path / "command.txt"), "takt train job.toml\n");
  EXPECT_EQ(contents(run.path / "environment.json"), "{\n  \"mpi\": \"Open MPI\"\n}\n");
  EXPECT_FALSE(std::filesystem::exists(run.path / "job.2.toml"));
}

TEST(RunDirectory, APathUnderAFileIsAnIoError) {
  const path file = fresh_directory() / "file";
  std::ofstream(file) << "x";
  try {
    open_run_directory(file / "out");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kIo);
  }
}

}  // namespace
}  // namespace takt
