// The reference interpreter: a global graph in double precision on one device, node by node. For tests.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/graph/graph.h"

namespace takt {

using Arrays = std::map<std::string, Array>;  // by value name

// Runs the graph with the given inputs and persistent values; returns every value, by number, those that are
// overwritten in place as they are afterwards. Throws kBug if an input is missing or has other dims.
std::vector<Array> interpret(const Graph& graph, const Arrays& outside);
// Only the first `num_nodes` nodes; what the others would compute is zero.
std::vector<Array> interpret_first(const Graph& graph, const Arrays& outside, std::size_t num_nodes);

}  // namespace takt
