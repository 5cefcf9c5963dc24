// What the job file says of the optimizer and its learning-rate schedule.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace takt {

struct ScheduleConfig {
  std::string kind = "constant";  // constant | linear | cosine | inverse_sqrt | wsd (warm-up, stable, decay)
  std::int64_t warmup = 0;        // steps of linear warm-up
  double final = 0.0;             // fraction of lr reached at the last step (linear, cosine, wsd)
  std::int64_t decay = 0;         // wsd: length of the decay at the end, in steps; 0: a fifth of all steps
};

struct OptimizerConfig {
  std::string kind = "adamw";  // adamw | sgd
  double lr = 6e-4;
  std::array<double, 2> betas = {0.9, 0.95};  // adamw
  double eps = 1e-8;                          // adamw
  double momentum = 0.9;                      // sgd
  double weight_decay = 0.1;                  // decoupled; not applied to norms and biases
  ScheduleConfig schedule;
};

}  // namespace takt
