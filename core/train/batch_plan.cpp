// The micro-batch is the largest divisor of a rank's share that keeps activations moderate. Where sums of gradients are
// cut over ranks (ZeRO-2), ranks are summed after every micro-batch; for that to be part of one tree over the global batch,
// what they sum must be neighbours in it.
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

// A micro-batch that is to be the same on every mesh leaves one for each of eight data ranks, where the batch allows it.
std::int64_t share_on_any_mesh(std::int64_t samples) {
  constexpr std::int64_t kRanks = 8;
  return samples % kRanks == 0 ? samples / kRanks : samples;
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
  const bool is_invariant = config.numerics == Numerics::kInvariant;
  const std::int64_t shared = is_invariant ? share_on_any_mesh(samples) : samples_a_rank;
  const std::int64_t micro_batch =
      config.micro_batch > 0 ? config.micro_batch : choose_micro_batch(shared, unit.per_sample);
  TAKT_REQUIRE(samples_a_rank % micro_batch == 0, "train.micro_batch: a rank's ", samples_a_rank,
               " samples are not a multiple of ", micro_batch,
               is_invariant
                   ? ", which train.numerics = \"invariant\" has on every mesh\n  set train.micro_batch "
                     "to a divisor, for all runs that should agree"
                   : "");
  return {.samples_a_step = samples,
          .micro_batch = micro_batch,
          .num_micro_batches = samples_a_rank / micro_batch,
          .samples_a_micro_batch = micro_batch * data,
          .ranks_side_by_side =
              is_invariant && config.layout.shard >= Shard::kGradients ? mesh.size_of("data") : 1};
}

std::int64_t BatchPlan::first_sample(std::int64_t data_rank, std::int64_t micro_number) const {
  const std::int64_t group = data_rank / ranks_side_by_side, in_group = data_rank % ranks_side_by_side;
  return ((group * num_micro_batches + micro_number) * ranks_side_by_side + in_group) * micro_batch;
}

}  // namespace takt
