// matmul: contraction of named axes, with optional bias and activation.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& matmul_op();

struct MatmulOptions {
  std::optional<ValueId> bias;
  std::string activation;  // "", "gelu", "silu"
};

// y[out] = sum over the axes that a and b share and `out` does not name. See matmul.cpp for what is accepted.
ValueId matmul(Graph& graph, ValueId a, ValueId b, const AxisNames& out, const std::string& name,
               const MatmulOptions& options = {});

}  // namespace takt
