// accumulate_early: sums a gradient into its accumulator as soon as it is there.
#pragma once

#include <vector>

#include "core/graph/graph.h"

namespace takt {

// An order of the graph's nodes, by their numbers: what adds to a buffer, and conversions that serve nothing else, follow the node that
// makes the summand. Gradients then do not wait in memory for the end of the program, and those that are summed for
// good can be reduced while the others are computed. Changes no result: every node reads what it read before.
std::vector<int> accumulating_early(const Graph& graph);

}  // namespace takt
