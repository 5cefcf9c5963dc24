// The reference interpreter: a global graph in double precision on one device, node by node. For tests.
#pragma once

#include <map>
#include <string>

#include "core/graph/graph.h"

namespace takt {

using Arrays = std::map<std::string, Array>;  // by value name

// Runs the graph with the given inputs and persistent values; returns all values by name (later ones of one name
// win), the persistent ones as they are afterwards. Throws kBug if an input is missing or has other dims.
Arrays interpret(const Graph& graph, const Arrays& outside);

}  // namespace takt
