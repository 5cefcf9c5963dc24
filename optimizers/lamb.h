// lamb: Adam's direction, with a step for each tensor that is a fraction of the tensor's norm.
#pragma once

#include "optimizers/optimizer.h"

namespace takt {

const OpDef& lamb_direction_op();
const OpDef& lamb_op();
// What decays. Norms and biases are neither decayed nor adapted: there LAMB is AdamW.
bool lamb_takes(const Graph& graph, const UpdateInputs& parameter);
// state: m, v.
void append_lamb(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters);

namespace cuda {
DeviceKernel lamb_direction();
DeviceKernel lamb();
}  // namespace cuda

}  // namespace takt
