// copies_in_updates: an update writes the bf16 copy of its parameter in its own pass.
#pragma once

#include "core/graph/graph.h"

namespace takt {

// A placed program in which updates write the copies that it otherwise casts from their results, where a copy lies as its
// parameter does and nobody reads what it was before. The same bits with a pass over the parameter less.
Graph with_copies_in_updates(const Graph& graph);

}  // namespace takt
