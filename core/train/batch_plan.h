// BatchPlan: how the samples of a step are spread over ranks and time.
#pragma once

#include <cstdint>

#include "core/mesh/mesh.h"
#include "core/train/step_config.h"
#include "core/train/task.h"

namespace takt {

struct BatchPlan {
  std::int64_t samples_a_step = 0;         // over all ranks
  std::int64_t micro_batch = 0;            // samples a data rank computes at once
  std::int64_t num_micro_batches = 0;      // a step
  std::int64_t samples_a_micro_batch = 0;  // over all data ranks
  // Micro-batches that neighbouring ranks compute at the same time and that follow each other in the global batch. 1: a
  // rank's own follow each other, so that it sums them before ranks are summed; else ranks are summed first.
  std::int64_t ranks_side_by_side = 1;

  // Of a data rank's micro-batch, in the global batch.
  std::int64_t first_sample(std::int64_t data_rank, std::int64_t micro_number) const;
};

// The size of a micro-batch is the config's, else chosen: with kInvariant from the global batch, so that it is the same on
// every mesh. Throws kConfig if the batch cannot be split, naming sizes that fit.
BatchPlan plan_batch(const StepConfig& config, const Unit& unit, const Mesh& mesh);

}  // namespace takt
