// What the schema cannot see: keys that must fit each other. A message names both keys and the values that fit.
#include "launch/job_check.h"

#include "core/base/error.h"

namespace takt {
namespace {

void check_data(const Job& job) {
  TAKT_REQUIRE(!job.data.train.empty(),
               "data.train is missing, wanted at least one file\n"
               "  set it in [data], such as train = [\"data/kjv.train.bin\"]");
  for (const std::vector<std::string>* files : {&job.data.train, &job.data.valid})
    for (const std::string& file : *files)
      TAKT_REQUIRE(!file.empty(), "data.", files == &job.data.train ? "train" : "valid",
                   ": a file name is empty");
  TAKT_REQUIRE(job.eval.every == 0 || !job.data.valid.empty(), "eval.every is \"", job.eval.every,
               " steps\" but data.valid names no file\n  set data.valid, or eval.every = \"off\"");
}

void check_schedule(const Job& job) {
  const ScheduleConfig& schedule = job.optimizer.schedule;
  TAKT_REQUIRE(schedule.kind == "wsd" || schedule.decay == 0, "optimizer.schedule.decay is ", schedule.decay,
               " but the kind is \"", schedule.kind, "\", which has no decay phase\n  set kind = \"wsd\"");
}

// Zero: NCCL decides.
void check_nccl(const Job& job) {
  const NcclSettings& nccl = job.nccl;
  TAKT_REQUIRE(nccl.min_ctas == 0 || nccl.max_ctas == 0 || nccl.min_ctas <= nccl.max_ctas,
               "nccl.min_ctas is ", nccl.min_ctas, " but nccl.max_ctas is ", nccl.max_ctas,
               "\n  wanted min_ctas <= max_ctas");
}

}  // namespace

void check_job(const Job& job) {
  check_data(job);
  check_schedule(job);
  check_nccl(job);
}

}  // namespace takt
