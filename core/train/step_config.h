// StepConfig: everything about a training step that neither the task nor the mesh says.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/passes/numerics.h"
#include "core/passes/precision.h"
#include "core/passes/recompute.h"
#include "core/passes/sharding_rules.h"
#include "optimizers/optimizer_config.h"

namespace takt {

// What is done to hide communication behind computation. Only executors that compute beside a collective profit.
struct Overlap {
  // The last micro-batch and the update are one program: gradients are reduced as they come.
  bool joins_update = false;
  // That a program's temporary values may take beyond what they need without overlap.
  std::size_t extra_bytes = 0;
};

struct StepConfig {
  std::int64_t global_batch = 32;  // samples over all ranks
  std::int64_t micro_batch = 0;    // samples a data rank computes at once; 0: chosen
  std::int64_t steps = 1000;       // of the whole run, for the learning-rate schedule
  std::uint64_t seed = 42;         // of the initial weights
  Precision precision = Precision::kF32;
  Numerics numerics = Numerics::kFast;
  LayoutOptions layout = {};
  Recompute recompute = Recompute::kNone;
  bool skips_failed_steps =
      false;  // a step that is not finite changes nothing, and the next one may; else none after it
  double grad_clip = 1.0;        // largest norm of the whole gradient; 0: off
  std::size_t bucket_bytes = 0;  // gradients reduced in one call; 0: from the data-parallel degree
  Overlap overlap = {};
  OptimizerConfig optimizer = {};
};

}  // namespace takt
