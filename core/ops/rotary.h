// rotary: rotary position embedding.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& rotary_op();
// x: [..., seq, ..., head_dim] with an even last axis; rotates pairs by position times theta^(-2 i /
// head_dim).
ValueId rotary(Graph& graph, ValueId x, double theta, const std::string& name);

}  // namespace takt
