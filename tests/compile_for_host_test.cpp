// Ranks of a host share its memory: what does not fit together is spread over more hosts, or refused.
#include "launch/compile_for_host.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "launch/plan_text.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

GptStep small_job() {
  GptStep job;
  job.model.layers = 1;
  job.model.embed = 32;
  job.model.vocab = 64;
  job.model.seq = 16;
  job.model = complete_gpt(job.model);
  job.step.global_batch = 8;
  return job;
}

const Mesh kFourRanks = {{{"data", 4}, {"tensor", 1}}};

HostedStep compiled(std::optional<int> ranks_on_host, const HostLimits& host, int threads = 1) {
  const GptStep job = small_job();
  const LanguageTask task = job.task();
  StepCompiler compiler(task, job.step);
  return compile_for_host(compiler, kFourRanks, threads, ranks_on_host, host);
}

std::uint64_t bytes_of_a_rank() {
  return compiled(1, {}).plan.arena.num_bytes();
}

int chosen(std::uint64_t memory_bytes, int num_cores, int threads = 1) {
  return compiled(std::nullopt, {memory_bytes, num_cores}, threads).ranks_on_host;
}

TEST(CompileForHost, AsManyRanksShareAHostAsItsMemoryAndCoresAllow) {
  const std::uint64_t one = bytes_of_a_rank();
  EXPECT_EQ(chosen(100 * one, 64), 4);  // all there are
  EXPECT_EQ(chosen(100 * one, 3), 3);
  EXPECT_EQ(chosen(4 * one - 1, 64), 3);
  EXPECT_EQ(chosen(one, 64), 1);
  EXPECT_EQ(chosen(one / 2, 64), 1);  // and require_memory says that it does not fit
  EXPECT_EQ(chosen(100 * one, 8, 4), 2);
}

TEST(CompileForHost, WhatIsAskedForIsPlannedAndCheckedWithThatManyRanks) {
  const std::uint64_t one = bytes_of_a_rank();
  const HostLimits host = {.memory_bytes = 2 * one, .num_cores = 64};
  for (const int ranks : {1, 2, 4}) {
    const HostedStep step = compiled(ranks, host);
    EXPECT_EQ(step.ranks_on_host, ranks);
    const auto check = [&] {
      require_memory(step.plan, plan_batch(small_job(), kFourRanks), step.ranks_on_host, host.memory_bytes);
    };
    if (ranks <= 2)
      EXPECT_NO_THROW(check());
    else
      EXPECT_THROW(check(), Error);
  }
}

TEST(CompileForHost, ThePlanSaysHowManyHostsItIsFor) {
  const HostedStep step = compiled(3, {});
  EXPECT_NE(plan_text(step.plan, plan_batch(small_job(), kFourRanks), step.ranks_on_host)
                .find("4 ranks on 2 hosts like this one, 3 a host, 1 thread a rank"),
            std::string::npos);
}

}  // namespace
}  // namespace takt
