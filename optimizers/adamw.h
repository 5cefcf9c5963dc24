// adamw: Adam with decoupled weight decay.
#pragma once

#include "optimizers/optimizer.h"

namespace takt {

const OpDef& adamw_op();
const OpDef& adamw_with_copy_op();
// state: m, v.
void append_adamw(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters);

namespace cuda {
DeviceKernel adamw();
}

}  // namespace takt
