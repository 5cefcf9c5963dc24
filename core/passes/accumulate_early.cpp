// accumulate_early: nodes that should run early wait for their inputs only; all others keep their order.
#include "core/passes/accumulate_early.h"

#include <algorithm>

namespace takt {
namespace {

class Reordering {
 public:
  explicit Reordering(const Graph& graph)
      : graph_(graph), users_(graph), is_early_(graph.nodes().size()), num_missing_(graph.nodes().size()) {
    for (const ValueId id : graph.outputs()) outputs_.push_back(id.index);
    std::sort(outputs_.begin(), outputs_.end());
    for (std::size_t n = graph.nodes().size(); n-- > 0;) {
      num_missing_[n] = count_computed_inputs(n);
      is_early_[n] = num_missing_[n] > 0 && should_be_early(graph.nodes()[n]);
    }
  }

  std::vector<int> run() && {
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n)
      if (!is_early_[n]) take(n);
    return std::move(order_);
  }

 private:
  int count_computed_inputs(std::size_t n) const {
    const std::vector<ValueId>& inputs = graph_.nodes()[n].inputs;
    return static_cast<int>(std::count_if(inputs.begin(), inputs.end(),
                                          [&](ValueId id) { return graph_.value(id).producer.index >= 0; }));
  }

  // Readers are decided before what they read.
  bool should_be_early(const Node& node) const {
    if (node.op->defers_reduction) return users_.of(node.inputs[0]).size() == 1;  // nobody reads it as it was
    return node.op->needs_group && std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
             const std::span<const NodeId> readers = users_.of(id);
             return readers.size() == 1 && is_early_[static_cast<std::size_t>(readers[0].index)] &&
                    !std::binary_search(outputs_.begin(), outputs_.end(), id.index);
           });
  }

  // With the early nodes that now have all inputs.
  void take(std::size_t n) {
    const Node& node = graph_.nodes()[n];
    order_.push_back(static_cast<int>(n));
    for (const ValueId id : node.outputs)
      for (const NodeId reader : users_.of(id)) {
        const auto r = static_cast<std::size_t>(reader.index);
        if (--num_missing_[r] == 0 && is_early_[r]) take(r);
      }
  }

  const Graph& graph_;
  Users users_;
  std::vector<bool> is_early_;    // by node
  std::vector<int> num_missing_;  // by node: inputs that are not computed yet
  std::vector<int> outputs_;      // of the graph, sorted
  std::vector<int> order_;
};

}  // namespace

std::vector<int> accumulating_early(const Graph& graph) {
  return Reordering(graph).run();
}

}  // namespace takt
