// Started collectives: those that run beside the nodes behind them, until their `done`.
#pragma once

#include <vector>

#include "core/graph/graph.h"

namespace takt {

// A collective on the computing stream (0) is over when the next node begins; on another stream it has only started.
bool is_started(const Node& node);

// For every node the number of the node at which it is over: its own, or that of its `done`. Until then nobody may
// write what it reads, nor touch what it writes and its scratch.
std::vector<int> ends_of(const Graph& graph);

}  // namespace takt
