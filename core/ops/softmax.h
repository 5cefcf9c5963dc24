// softmax over the last axis.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& softmax_op();
const OpDef& softmax_grad_op();
ValueId softmax(Graph& graph, ValueId x, const std::string& name);

}  // namespace takt
