// The shape, cost and placement rules that all elementwise optimizer updates share.
#pragma once

#include <vector>

#include "core/graph/op.h"

namespace takt {

// Inputs: parameter, gradient, state tensors, hyper, factor. Outputs: the new parameter and state, in place.
std::vector<TensorDesc> infer_elementwise_update(const OpArgs& args);
Cost cost_elementwise_update(const OpArgs& args);
std::vector<OpPlacement> placements_elementwise_update(const OpArgs& args);

}  // namespace takt
