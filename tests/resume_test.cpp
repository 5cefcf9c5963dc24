// Resuming: a checkpoint is gone on with by the same experiment only, whatever its files and keys are called now.
#include "launch/resume.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "launch/job_file.h"

namespace takt {
namespace {

constexpr std::uint64_t kDataHash = 0x0123456789abcdef;
constexpr const char* kJob = R"(
name = "tiny"
seed = 5
[data]
train = ["a.bin"]
[model]
layers = 2
embed = 32
heads = 4
seq = 32
vocab = 300
[train]
global_batch = "16 samples"
)";

Job job() {
  return parse_job(kJob, "job.toml", {}).job;
}

TrainingCursor saved_with(const ComparedFacts& compared) {
  TrainingCursor cursor;
  cursor.effective_job = "this = is not = read";
  cursor.compared = compared;
  return cursor;
}

// The message of the kConfig error; empty where the run may go on.
std::string refusal(const TrainingCursor& saved, const ComparedFacts& now) {
  try {
    require_same_experiment(saved, now);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig) << error.what();
    return error.what();
  }
  return "";
}

bool says(const std::string& message, const std::string& part) {
  return message.find(part) != std::string::npos;
}

TEST(Resume, TheSameExperimentGoesOnWhereverItsDataLies) {
  const TrainingCursor saved = saved_with(compared_facts(job(), kDataHash));
  Job moved = job();
  moved.data.train = {"elsewhere/b.bin"};
  moved.train.steps += 100;
  EXPECT_EQ(refusal(saved, compared_facts(moved, kDataHash)), "");
}

TEST(Resume, ReplacedDataIsRefused) {
  const std::string message =
      refusal(saved_with(compared_facts(job(), kDataHash)), compared_facts(job(), kDataHash + 1));
  EXPECT_TRUE(says(message,
                   "data.train: the checkpoint was made with data of hash 0123456789abcdef, this run "
                   "has 0123456789abcdf0"))
      << message;
}

TEST(Resume, EveryFactThatDiffersIsNamed) {
  const ComparedFacts now = compared_facts(job(), kDataHash);
  EXPECT_EQ(now.facts.size(), 10u);
  for (const auto& [name, text] : now.facts) {
    ComparedFacts other = now;
    other.facts[name] = "other";
    EXPECT_TRUE(refusal(saved_with(other), now).starts_with(name + ": the checkpoint was made with "));
    other.facts.erase(name);
    EXPECT_TRUE(
        refusal(saved_with(other), now).starts_with(name + ": the checkpoint was made with no such fact"));
    EXPECT_TRUE(says(refusal(saved_with(now), other), name + ": the checkpoint was made with "))
        << refusal(saved_with(now), other);
  }
}

TEST(Resume, ATableOfALaterVersionIsRefused) {
  ComparedFacts later = compared_facts(job(), kDataHash);
  later.version += 1;
  EXPECT_TRUE(says(refusal(saved_with(later), compared_facts(job(), kDataHash)), "resume it with the Takt"));
}

// Such checkpoints say which job they were made with, and nothing about the data.
TEST(Resume, ACheckpointWithoutATableIsComparedByItsJob) {
  TrainingCursor saved;
  saved.effective_job = kJob;
  EXPECT_EQ(refusal(saved, compared_facts(job(), kDataHash)), "");
  Job other = job();
  other.seed = 9;
  EXPECT_TRUE(says(refusal(saved, compared_facts(other, kDataHash)),
                   "seed: the checkpoint was made with 5, this run has 9"));
}

}  // namespace
}  // namespace takt
