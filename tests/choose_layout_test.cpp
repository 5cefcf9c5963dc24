// mesh.layout = "auto": what can be taken comes before what cannot, the fast before the slow.
#include "launch/choose_layout.h"
#include "launch/choose_recompute.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

constexpr std::uint64_t kPlenty = std::uint64_t{1} << 40;

std::vector<RankedLayout> layouts_of(const GptStep& job, int num_ranks, std::uint64_t memory_bytes) {
  const LanguageTask task = job.task();
  StepCompiler compiler(task, job.step);
  return rank_layouts(compiler, {}, num_ranks, 1, memory_bytes);
}

GptStep job_of(std::int64_t global_batch) {
  GptStep job;
  job.model = {.layers = 2, .embed = 64, .heads = 4, .kv_heads = 4, .mlp = 128, .vocab = 512, .seq = 32};
  job.step.global_batch = global_batch;
  job.step.micro_batch = 1;
  return job;
}

std::string names_of(const std::vector<RankedLayout>& layouts) {
  std::string names;
  for (const RankedLayout& layout : layouts)
    names += to_string(layout.mesh) + (layout.problem.empty() ? "; " : " -; ");
  return names;
}

TEST(ChooseLayout, KnowsEveryLayoutThatTheModelAllows) {
  const std::vector<RankedLayout> layouts = layouts_of(job_of(64), 4, kPlenty);
  EXPECT_EQ(layouts.size(), 6u) << names_of(layouts);  // context x tensor: 1x1 1x2 1x4 2x1 2x2 4x1
  EXPECT_EQ(to_string(best_layout(layouts)), "data=4 tensor=1")
      << "a small model is fastest with one reduction a step";
  for (std::size_t i = 1; i < layouts.size(); ++i) EXPECT_LE(layouts[i - 1].step_s, layouts[i].step_s);
}

TEST(ChooseLayout, PassesOverWhatTheBatchDoesNotAllow) {
  const std::vector<RankedLayout> layouts = layouts_of(job_of(2), 4, kPlenty);
  EXPECT_NE(best_layout(layouts).size_of("data"), 4);
  EXPECT_EQ(layouts.back().problem, "train.global_batch: 2 samples cannot be split over data=4")
      << names_of(layouts);
}

TEST(ChooseLayout, TakesAnotherLayoutWhereTheFastestDoesNotFit) {
  const std::vector<RankedLayout> all = layouts_of(job_of(64), 4, kPlenty);
  const std::uint64_t too_little = all.front().rank_bytes - 1;
  const std::vector<RankedLayout> layouts = layouts_of(job_of(64), 4, too_little);
  EXPECT_LE(layouts.front().rank_bytes, too_little);
  EXPECT_NE(best_layout(layouts), all.front().mesh);
  EXPECT_NE(layouts.back().problem.find("which has"), std::string::npos) << layouts.back().problem;
}

TEST(ChooseLayout, KeepsGroupsOfRanksThatShareWhole) {
  const GptStep job = job_of(64);
  const LanguageTask task = job.task();
  StepCompiler compiler(task, job.step);
  MeshConfig config;
  config.shard = "optimizer";
  config.shard_group = 2;
  for (const RankedLayout& layout : rank_layouts(compiler, config, 4, 1, kPlenty))
    EXPECT_EQ(layout.mesh.size_of("data"), 2) << to_string(layout.mesh);
  config.shard_group = 3;
  EXPECT_THROW(rank_layouts(compiler, config, 4, 1, kPlenty), Error);
}

TEST(ChooseRecompute, ComputesAsLittleAgainAsMemoryAllows) {
  const GptStep job = job_of(8);
  const LanguageTask task = job.task();
  StepCompiler compiler(task, job.step);
  std::vector<std::size_t> bytes;  // with nothing, some and all of a layer computed again
  const auto compiled = [&](std::size_t limit) {
    bytes.push_back(compiler.candidate({{{"data", 1, 1}, {"tensor", 1}}}, 1).arena.num_bytes());
    return bytes.back() <= limit;
  };
  choose_recompute(compiler, "auto", [&] { return compiled(0); });
  ASSERT_EQ(bytes.size(), 3u);
  EXPECT_GT(bytes[0], bytes[1]);
  EXPECT_GT(bytes[1], bytes[2]);
  for (std::size_t wanted = 0; wanted < 3; ++wanted) {
    const std::size_t limit = bytes[wanted];
    choose_recompute(compiler, "auto", [&] { return compiled(limit); });
    EXPECT_EQ(compiler.config().recompute, static_cast<Recompute>(wanted));
  }
  choose_recompute(compiler, "selective", [&] { return compiled(0); });
  EXPECT_EQ(compiler.config().recompute, Recompute::kSelective);
}

TEST(ChooseLayout, SaysWhatEachWouldNeedWhereNoneFits) {
  try {
    best_layout(layouts_of(job_of(64), 2, 1000));
    ADD_FAILURE() << "nothing fits into a thousand bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kMemory);
    EXPECT_NE(std::string(error.what()).find("data=1 tensor=2"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace takt
