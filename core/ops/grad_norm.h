// The global gradient norm: squares of each gradient, and from their sum the norm and the clipping factor.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& sum_squares_op();
const OpDef& clip_factor_op();
// The sum of squares of all elements, a scalar.
ValueId sum_squares(Graph& graph, ValueId x, const std::string& name);

struct ClipFactor {
  ValueId norm;    // sqrt(square)
  ValueId factor;  // what gradients are multiplied by: min(1, max_norm / norm); 1 if max_norm is 0
};
ClipFactor clip_factor(Graph& graph, ValueId square, double max_norm, const std::string& name);

}  // namespace takt
