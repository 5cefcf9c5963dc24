// muon: momentum, made orthogonal, for the hidden matrices; AdamW for the rest.
#pragma once

#include "optimizers/optimizer.h"

namespace takt {

const OpDef& muon_direction_op();
const OpDef& muon_op();
// Hidden matrices. Tables, the projection to the logits, norms and biases are left to AdamW.
bool muon_takes(const Graph& graph, const UpdateInputs& parameter);
// state: momentum.
void append_muon(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters);

namespace cuda {
DeviceKernel muon_direction();
DeviceKernel muon();
}  // namespace cuda

}  // namespace takt
