// accumulate: adds to a buffer that lives over all micro-batches of a step.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& accumulate_op();
// buffer += x, in place.
ValueId accumulate(Graph& graph, ValueId buffer, ValueId x, const std::string& name);

}  // namespace takt
