// gated: act(gate) times up, the middle of a gated MLP.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& gated_op();
const OpDef& gated_grad_op();
// y = silu(gate) up, all of one shape.
ValueId gated_silu(Graph& graph, ValueId gate, ValueId up, const std::string& name);

}  // namespace takt
