// Optimizers: each appends the nodes that update one parameter.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "optimizers/optimizer_config.h"

namespace takt {

// What every update reads. `hyper` is an input the host writes before each step: f32[hyper = 3], see StepHyper.
struct UpdateInputs {
  ValueId parameter;
  ValueId gradient;  // the sum over the global batch, before clipping
  ValueId hyper;
  // Scalar; gradients are multiplied by it. An update with a factor that is not finite does nothing.
  ValueId factor;
};

// The numbers that change every step, in the order in which they stand in `hyper`.
struct StepHyper {
  float lr = 0;
  float correction1 = 1;  // 1 / (1 - beta1^t)
  float correction2 = 1;  // 1 / (1 - beta2^t)
};

struct OptimizerDef {
  std::string name;                // optimizer.kind in the job file
  std::vector<std::string> keys;   // of [optimizer] that only such optimizers read
  std::vector<std::string> slots;  // state tensors a parameter, each of the parameter's shape
  // Appends the update; state values are made by the caller, one a slot.
  void (*append)(Graph& graph, const OptimizerConfig& config, const UpdateInputs& inputs,
                 std::span<const ValueId> state);
  const OpDef& (*op)();
  const OpDef& (*op_with_copy)();  // see with_copy in elementwise_update.h
};

std::span<const OptimizerDef> optimizer_registry();
const OptimizerDef& find_optimizer(const std::string& kind);  // kConfig with the known names

// The hyper-parameters of step `step`, which counts from 1, of `num_steps`.
StepHyper hyper_at(const OptimizerConfig& config, std::int64_t step, std::int64_t num_steps);

// The name of an optimizer state tensor: "<slot>.<parameter>".
std::string state_name(const std::string& slot, const std::string& parameter);

}  // namespace takt
