// The job file counts a batch in what people count; a step counts samples.
#include "launch/job_task.h"

#include "core/base/error.h"
#include "launch/job_check.h"

namespace takt {
namespace {

// A CPU rank is blocked by its collectives. On a GPU a quarter of a GiB is little beside 80 and more, and holds several
// gathers in flight.
constexpr Overlap kOverlapOnGpus = {.joins_update = true, .extra_bytes = std::size_t{256} << 20};

constexpr std::int64_t kMostBatchUnits = std::int64_t{1} << 40;

std::int64_t samples_a_step(const Job& job, const Unit& unit) {
  const std::int64_t batch = job.train.global_batch, per_sample = unit.per_sample;
  const std::string& given = job.train.global_batch_unit;
  const bool in_samples = given == "samples";
  TAKT_REQUIRE(in_samples || given == unit.name, "train.global_batch is \"", batch, " ", given,
               "\", but this model counts ", unit.name,
               "\n  set it in [train], such as global_batch = \"64 samples\"");
  TAKT_REQUIRE(batch <= (in_samples ? kMostBatchUnits / per_sample : kMostBatchUnits), "train.global_batch ",
               batch, " is more than 2^40 ", unit.name);
  TAKT_REQUIRE(in_samples || batch % per_sample == 0, "train.global_batch ", batch, " ", unit.name,
               " is not a multiple of a sample's ", per_sample, " ", unit.name, "\n  nearest that fits: \"",
               (batch / per_sample + 1) * per_sample, " ", unit.name, "\"");
  const std::int64_t samples = in_samples ? batch : batch / per_sample;
  TAKT_REQUIRE(job.train.micro_batch == 0 || samples % job.train.micro_batch == 0, "train.global_batch is ",
               samples, " samples, not a multiple of train.micro_batch ", job.train.micro_batch);
  return samples;
}

}  // namespace

Settings settings_of(const Job& job) {
  return {find_task(job.model.kind).settings(), job.settings};
}

std::unique_ptr<JobTask> make_task(const Job& job) {
  check_job(job);
  return find_task(job.model.kind).make(settings_of(job), {job.data.train, job.data.valid});
}

StepConfig step_config(const Job& job, const Unit& unit, DeviceKind device) {
  return {.global_batch = samples_a_step(job, unit),
          .micro_batch = job.train.micro_batch,
          .steps = job.train.steps,
          .seed = job.seed,
          .precision = find_precision(job.train.precision),
          .numerics = find_numerics(job.train.numerics),
          .layout = {.shard = find_shard(job.mesh.shard), .sequence = job.mesh.sequence},
          .skips_failed_steps = job.guard.nan == "skip",
          .grad_clip = job.train.grad_clip,
          .bucket_bytes = static_cast<std::size_t>(job.mesh.bucket_bytes),
          .overlap = device == DeviceKind::kCuda ? kOverlapOnGpus : Overlap{},
          .optimizer = job.optimizer};
}

}  // namespace takt
