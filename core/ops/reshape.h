// reshape: the same elements in the same order under other axes; renaming an axis is the simplest case.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& reshape_op();
ValueId reshape(Graph& graph, ValueId x, const Dims& dims, const std::string& name);
ValueId rename(Graph& graph, ValueId x, const Axis& from, const Axis& to,
               const std::string& name);

}  // namespace takt
