// Learning-rate schedules.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "optimizers/optimizer_config.h"

namespace takt {

struct ScheduleDef {
  std::string name;               // optimizer.schedule.kind in the job file
  std::vector<std::string> keys;  // of [optimizer.schedule] that only such schedules read
  // The factor at a step after the warm-up. `progress` rises from 0 at the end of the warm-up to 1 at the end.
  double (*factor)(const ScheduleConfig& schedule, double progress, std::int64_t step,
                   std::int64_t num_steps);
};
std::span<const ScheduleDef> schedule_registry();

// The factor on lr at step `step`, which counts from 1, of `num_steps`: warm-up rises linearly and reaches 1
// at step `warmup`; what follows depends on the kind. Throws kConfig for an unknown kind.
double schedule_factor(const ScheduleConfig& schedule, std::int64_t step, std::int64_t num_steps);

}  // namespace takt
