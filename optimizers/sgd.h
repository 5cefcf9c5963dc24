// sgd: stochastic gradient descent with momentum.
#pragma once

#include "optimizers/optimizer.h"

namespace takt {

const OpDef& sgd_op();
const OpDef& sgd_with_copy_op();
// state: momentum.
void append_sgd(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters);

namespace cuda {
DeviceKernel sgd();
}

}  // namespace takt
