// The shape and cost that all elementwise optimizer updates share. They may be cut along any axis of the
// parameter, which is all that sharded optimizer state needs.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/bf16.h"
#include "core/graph/op.h"

namespace takt {

// Inputs: parameter, gradient, state tensors, hyper, factor. Outputs: the new parameter and state, in place.
std::vector<TensorDesc> infer_elementwise_update(const OpArgs& args);
Cost cost_elementwise_update(const OpArgs& args);

// The record of an update that also writes the new parameter in bf16, over one more input, behind the factor, which it does
// not read. Kernels and the reference of `update` do so where the node has that output.
OpDef with_copy(const OpDef& update);

// The CPU's copy of elements [first, last) of the new parameter, while they are in the cache; does nothing where `copy` is
// null.
void write_copy(const float* parameter, BF16* copy, std::int64_t first, std::int64_t last);

}  // namespace takt
