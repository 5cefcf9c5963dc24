// A done is found by what it reads: the outputs of its collective.
#include "core/graph/started.h"

#include <numeric>

namespace takt {

bool is_started(const Node& node) {
  return node.op->communicates && node.stream > 0;
}

std::vector<int> ends_of(const Graph& graph) {
  std::vector<int> ends(graph.nodes().size());
  std::iota(ends.begin(), ends.end(), 0);
  for (std::size_t n = 0; n < graph.nodes().size(); ++n)
    if (graph.nodes()[n].op->awaits)
      ends[static_cast<std::size_t>(graph.value(graph.nodes()[n].inputs.at(0)).producer.index)] =
          static_cast<int>(n);
  return ends;
}

}  // namespace takt
