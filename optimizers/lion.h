// lion: steps by the sign of an average of gradients.
#pragma once

#include "optimizers/optimizer.h"

namespace takt {

const OpDef& lion_op();
// state: m.
void append_lion(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters);

namespace cuda {
DeviceKernel lion();
}

}  // namespace takt
