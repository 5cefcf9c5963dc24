// autodiff: reverse-mode differentiation of the global graph.
#pragma once

#include <span>
#include <vector>

#include "core/graph/graph.h"

namespace takt {

// Appends the nodes that compute d(loss)/d(value) for each of `wanted`; loss is a scalar. Returns one
// gradient for each of `wanted`, in order. Throws kConfig if a wanted value does not reach the loss or an op
// on the way is not differentiable.
std::vector<ValueId> differentiate(Graph& graph, ValueId loss, std::span<const ValueId> wanted);

}  // namespace takt
