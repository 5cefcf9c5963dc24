// fill: a constant tensor.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& fill_op();
ValueId fill(Graph& graph, const TensorDesc& desc, double value, const std::string& name);

}  // namespace takt
