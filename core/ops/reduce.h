// reduce: sum or maximum over axes, and broadcast, which is its transpose.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& reduce_op();
const OpDef& broadcast_op();

// The axes must stand side by side in x. All axes: a scalar.
ValueId reduce(Graph& graph, ValueId x, const AxisNames& axes, ReduceOp op, const std::string& name);
// Repeats x along the axes of `dims` that it lacks; those must stand side by side in `dims`.
ValueId broadcast(Graph& graph, ValueId x, const Dims& dims, const std::string& name);

}  // namespace takt
