// The micro-batch is the largest divisor of a rank's share that keeps activations moderate.
#include "core/train/batch_plan.h"

#include <algorithm>

#include "core/base/error.h"

namespace takt {
namespace {

std::int64_t choose_micro_batch(std::int64_t samples_a_rank, std::int64_t units_a_sample) {
  constexpr std::int64_t kUnitsAtOnce = 2048;
  const std::int64_t most = std::max<std::int64_t>(1, kUnitsAtOnce / units_a_sample);
  for (std::int64_t size = std::min(samples_a_rank, most); size > 1; --size)
    if (samples_a_rank % size == 0) return size;
  return 1;
}

}  // namespace

BatchPlan plan_batch(const StepConfig& config, const Unit& unit, const Mesh& mesh) {
  const std::int64_t samples = config.global_batch, data = mesh.data_ranks();
  const int experts = mesh.size_of("expert");
  TAKT_REQUIRE(samples > 0 && samples % data == 0, "train.global_batch: ", samples,
               " samples cannot be split over data=", data / experts,
               experts == 1 ? "" : " x expert=" + std::to_string(experts),
               "\n  nearest that fit: ", std::max<std::int64_t>(1, samples / data) * data, " or ",
               (samples / data + 1) * data, " samples");
  const std::int64_t samples_a_rank = samples / data;
  const std::int64_t micro_batch =
      config.micro_batch > 0 ? config.micro_batch : choose_micro_batch(samples_a_rank, unit.per_sample);
  TAKT_REQUIRE(samples_a_rank % micro_batch == 0, "train.micro_batch: a rank's ", samples_a_rank,
               " samples are not a multiple of ", micro_batch);
  return {.samples_a_step = samples,
          .micro_batch = micro_batch,
          .num_micro_batches = samples_a_rank / micro_batch,
          .samples_a_micro_batch = micro_batch * data};
}

}  // namespace takt
