// What takt bench counts is what the plan says its programs do, and all of them run.
#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/exec/make_executor.h"
#include "launch/bench_text.h"
#include "launch/bench_time.h"
#include "launch/benchmarks.h"

namespace takt {
namespace {

const std::vector<DType> kDTypes = {DType::kF32, DType::kBF16};

TEST(Bench, CountsTheFlopsOfThePlan) {
  for (const BenchmarkSet& set :
       {matmul_benchmarks({8, 24}, kDTypes, 1),
        attention_benchmarks({.batch = 2, .seq = 12, .heads = 3, .head_dim = 8}, kDTypes, 1)}) {
    ASSERT_EQ(set.benchmarks.size(), set.plan.programs.size());
    for (std::size_t i = 0; i < set.benchmarks.size(); ++i)
      EXPECT_DOUBLE_EQ(set.benchmarks[i].work, cost_of(set.plan.programs[i]).useful_flops)
          << set.benchmarks[i].op;
  }
}

TEST(Bench, AnAllReduceCountsWhatARankMustSendAndReceive) {
  const BenchmarkSet set = all_reduce_benchmarks({4096}, 4, 1);
  EXPECT_EQ(cost_of(set.plan.programs[0]).traffic.at(0).num_bytes, 4096u);
  EXPECT_DOUBLE_EQ(set.benchmarks[0].work, 2.0 * 3 / 4 * 4096);
  EXPECT_TRUE(all_reduce_benchmarks({4096}, 1, 1).benchmarks.empty());
}

TEST(Bench, TimesEveryProgramOnEveryRank) {
  run_ranks(2, [](Communicator& all) {
    const std::unique_ptr<Communicator> alone = all.split(all.rank(), "one rank");
    for (const BenchmarkSet& set :
         {matmul_benchmarks({16}, kDTypes, 1), copy_benchmarks({256}, 1), all_reduce_benchmarks({256}, 2, 1),
          attention_benchmarks({.batch = 1, .seq = 8, .heads = 2, .head_dim = 8}, kDTypes, 1)}) {
      const bool spans_ranks = set.plan.mesh.num_ranks() > 1;
      const std::unique_ptr<Executor> executor = make_executor(set.plan, spans_ranks ? all : *alone);
      fill_operands(*executor);
      for (std::size_t i = 0; i < set.benchmarks.size(); ++i) {
        const BenchTime time =
            time_program(*executor, static_cast<int>(i), all, {.num_samples = 3, .sample_s = 0});
        EXPECT_GT(time.min_s, 0);
        EXPECT_LE(time.min_s, time.median_s);
        EXPECT_LE(time.median_s, time.max_s);
        EXPECT_EQ(time.runs_a_sample, 1);
      }
    }
  });
}

TEST(Bench, TheTableHasRateAndShareOfThePeak) {
  const BenchReport report{
      .version = "0.1.0",
      .device = "cuda: NVIDIA B200",
      .num_ranks = 8,
      .timing = {},
      .results = {{{.op = "matmul bf16", .shape = "4 x 4 x 4", .work = 1.5e12, .peak = 2e12},
                   {.median_s = 1, .min_s = 0.5, .max_s = 2, .runs_a_sample = 1}}}};
  EXPECT_NE(bench_text(report).find("1.500 TFLOP/s    75.0%"), std::string::npos) << bench_text(report);
  EXPECT_NE(bench_json(report).find("\"of_peak\": 0.75"), std::string::npos) << bench_json(report);
}

}  // namespace
}  // namespace takt
