// step_estimate: how long a step may take. Coarse on purpose: it puts layouts in an order, and promises no seconds.
#pragma once

#include "core/passes/step_plan.h"

namespace takt {

// What a rank and its links do in a second, and how much a call costs.
struct StepRates {
  double flops = 0;                 // a rank's arithmetic
  double bytes_near = 0;            // that a rank sends to neighbours,
  double bytes_far = 0;             // and to ranks that are not
  double call_s = 0;                // of latency, a call
  std::int64_t num_neighbours = 1;  // ranks, counted along the mesh's last axes, that are near each other
};
// Typical of a device: a core of a server and shared memory, or a GPU, NVLink and InfiniBand.
StepRates typical_rates(const RankDevice& device);

// The sum over the step's actions of arithmetic and traffic, one after the other. An all-reduce sends everything twice.
double estimated_step_s(const StepPlan& plan, const StepRates& rates);

}  // namespace takt
