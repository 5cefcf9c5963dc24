// add: the sum of tensors.
#pragma once

#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace takt {

const OpDef& add_op();

// terms[0] has the result's shape; the others have it too or its last axes (a bias, a position table, a
// scalar).
ValueId add(Graph& graph, const std::vector<ValueId>& terms, const std::string& name);

}  // namespace takt
