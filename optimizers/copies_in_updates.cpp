// update, cast and assign become one node: the copy's storage is an input of it, and is overwritten as the parameter is.
#include "optimizers/copies_in_updates.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

// The copying form of an update's op; null: no update, or one that does not copy.
const OpDef* form_with_copy(const OpDef* op) {
  for (const OptimizerDef& optimizer : optimizer_registry())
    if (op == optimizer.ops.front() && optimizer.with_copy != nullptr) return optimizer.with_copy;
  return nullptr;
}

class CopyFinder {
 public:
  explicit CopyFinder(const Graph& graph) : graph_(graph), users_(graph) {
    for (std::size_t n = 0; n < graph.nodes().size(); ++n) look_at(static_cast<int>(n));
  }

  // The assign whose work the update can do, by update.
  const std::map<int, int>& assigns() const { return assigns_; }
  // Nodes that are no longer needed.
  bool is_left_out(int node) const { return left_out_.contains(node); }

 private:
  const Value& value(ValueId id) const { return graph_.value(id); }

  void look_at(int assign) {
    const Node& node = graph_.nodes()[static_cast<std::size_t>(assign)];
    if (node.op != &assign_op()) return;
    const NodeId cast = value(node.inputs[1]).producer;
    if (cast.index < 0 || graph_.node(cast).op != &cast_op() || users_.of(node.inputs[1]).size() != 1) return;
    const Value& parameter = value(graph_.node(cast).inputs[0]);
    const NodeId update = parameter.producer;
    if (update.index < 0 || form_with_copy(graph_.node(update).op) == nullptr) return;
    const Value& copy = value(node.inputs[0]);
    if (graph_.node(update).outputs[0] != graph_.node(cast).inputs[0] || copy.desc.dtype != DType::kBF16 ||
        copy.desc.dims != parameter.desc.dims || copy.placement != parameter.placement)
      return;
    const auto reads_late = [&](NodeId reader) {
      return reader.index > update.index && reader.index != assign;
    };
    if (std::ranges::any_of(users_.of(node.inputs[0]), reads_late)) return;
    if (!assigns_.emplace(update.index, assign).second) return;
    left_out_.insert({cast.index, assign});
  }

  const Graph& graph_;
  const Users users_;
  std::map<int, int> assigns_;
  std::set<int> left_out_;
};

}  // namespace

Graph with_copies_in_updates(const Graph& graph) {
  const CopyFinder found(graph);
  Rewriter rewriter(graph);
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (found.is_left_out(static_cast<int>(n))) continue;
    const auto taken = found.assigns().find(static_cast<int>(n));
    if (taken == found.assigns().end()) {
      rewriter.copy(node);
      continue;
    }
    const Node& assign = graph.nodes()[static_cast<std::size_t>(taken->second)];
    Node update = node;
    update.op = form_with_copy(node.op);
    update.inputs.push_back(assign.inputs[0]);
    std::vector<ValueId> outputs = node.outputs;
    outputs.push_back(assign.outputs[0]);
    rewriter.copy_as(std::move(update), outputs);
  }
  return std::move(rewriter).finish();
}

}  // namespace takt
