// Optimizers: each appends the nodes that update one parameter.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "optimizers/matrix_axes.h"
#include "optimizers/optimizer_config.h"

namespace takt {

// What the update of one parameter reads. `hyper` is an input the host writes before each step: f32[hyper = 3], see StepHyper.
struct UpdateInputs {
  ValueId parameter;
  ValueId gradient;  // the sum over the global batch, before clipping
  ValueId hyper;
  // Scalar; gradients are multiplied by it. An update with a factor that is not finite does nothing.
  ValueId factor;
  std::optional<MatrixAxes> matrix = {};  // where the parameter is a hidden matrix
  std::vector<ValueId> state = {};        // made by append_updates, one a slot of its optimizer
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
  // Which parameters it updates; AdamW updates the others. Null: all.
  bool (*takes)(const Graph& graph, const UpdateInputs& parameter);
  // Appends the updates of all its parameters.
  void (*append)(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters);
  std::vector<const OpDef*> ops;  // of its own, for the contract tests
  const OpDef* with_copy =
      nullptr;  // the first of these where it writes a bf16 copy too: see elementwise_update.h
};

std::span<const OptimizerDef> optimizer_registry();
const OptimizerDef& find_optimizer(const std::string& kind);  // kConfig with the known names

// Makes the state of all parameters and appends their updates.
void append_updates(Graph& graph, const OptimizerConfig& config, std::vector<UpdateInputs> parameters);

// The weight decay of a parameter: none for norms and biases.
double decay_of(const Graph& graph, const OptimizerConfig& config, ValueId parameter);

// The hyper-parameters of step `step`, which counts from 1, of `num_steps`.
StepHyper hyper_at(const OptimizerConfig& config, std::int64_t step, std::int64_t num_steps);

// The name of an optimizer state tensor: "<slot>.<parameter>".
std::string state_name(const std::string& slot, const std::string& parameter);

}  // namespace takt
