// What gradient rules share, and the samples of ops that compute gradients.
#pragma once

#include <optional>
#include <vector>

#include "core/graph/graph.h"
#include "core/graph/op.h"

namespace takt {

// What a gradient rule returns: one entry an input, empty where nothing flows back.
using Gradients = std::vector<std::optional<ValueId>>;

// The gradient of the node's first output.
ValueId dy_of(const GradArgs& args);
// Appends one node, "d.<name>", whose outputs are the gradients of the node's first inputs; the others have none.
Gradients append_gradient(const GradArgs& args, const OpDef& op, const std::vector<ValueId>& inputs,
                          const Attrs& attrs = {});
// Each sample and then its gradient for a "dy" of output 0: samples of the op that the gradient rule appends.
std::vector<Sample> with_gradient(std::vector<Sample> samples);

}  // namespace takt
