// Learning-rate schedules.
#pragma once

#include <cstdint>

#include "optimizers/optimizer_config.h"

namespace takt {

// The factor on lr at step `step`, which counts from 1, of `num_steps`: warm-up rises linearly and reaches 1
// at step `warmup`; what follows depends on the kind. Throws kConfig for an unknown kind.
double schedule_factor(const ScheduleConfig& schedule, std::int64_t step, std::int64_t num_steps);

}  // namespace takt
