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
};

// Throws kConfig if the batch cannot be split, naming sizes that fit.
BatchPlan plan_batch(const StepConfig& config, const Unit& unit, const Mesh& mesh);

}  // namespace takt
