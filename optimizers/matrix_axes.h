// Which parameters are hidden matrices, and along which axes.
#pragma once

#include <optional>

#include "core/graph/graph.h"

namespace takt {

// A parameter's axes as those of a matrix: all of `rows` are one side, all of `columns` the other, each in the order of
// the parameter, `rows` in front. Along the axes `stacked` lie several matrices.
struct MatrixAxes {
  AxisNames stacked, rows, columns;
  bool operator==(const MatrixAxes&) const = default;
};

// The axes of a parameter that a layer multiplies by and nothing else reads; none for tables, projections outside of
// layers (the logits), norms and biases. `readers` are those of `model`, a differentiated graph.
std::optional<MatrixAxes> hidden_matrix(const Graph& model, const Users& readers, ValueId parameter);

}  // namespace takt
