// stack: joins tensors along an additional axis; unstack takes them apart again.
#pragma once

#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace takt {

const OpDef& stack_op();
const OpDef& unstack_op();
// n tensors of one shape become [..., axis = n, ...] with the new axis at `position`.
ValueId stack(Graph& graph, const std::vector<ValueId>& parts, const Axis& axis, std::int64_t position,
              const std::string& name);
// One tensor an element of `axis`.
std::vector<ValueId> unstack(Graph& graph, ValueId x, const Axis& axis, const std::string& name);

}  // namespace takt
