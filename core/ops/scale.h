// scale: a tensor times a constant.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& scale_op();
ValueId scale(Graph& graph, ValueId x, double factor, const std::string& name);

}  // namespace takt
