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
  std::string kind = "adamw";  // adamw | lamb | lion | muon | sgd
  double lr = 6e-4;
  std::array<double, 2> betas = {0.9, 0.95};       // adamw, lamb; muon where it uses AdamW
  double eps = 1e-8;                               // the same
  std::array<double, 2> lion_betas = {0.9, 0.99};  // of the direction and of the average
  double muon_momentum = 0.95;
  double momentum = 0.9;      // sgd
  double weight_decay = 0.1;  // decoupled; not applied to norms and biases
  ScheduleConfig schedule;
};

}  // namespace takt
