// The shape and cost that all elementwise optimizer updates share. They may be cut along any axis of the
// parameter, which is all that sharded optimizer state needs.
#pragma once

#include <vector>

#include "core/graph/op.h"

namespace takt {

// Inputs: parameter, gradient, state tensors, hyper, factor. Outputs: the new parameter and state, in place.
std::vector<TensorDesc> infer_elementwise_update(const OpArgs& args);
Cost cost_elementwise_update(const OpArgs& args);

}  // namespace takt
