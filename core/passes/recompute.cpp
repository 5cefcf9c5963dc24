// recompute: readers in the backward pass get copies of what their own layer computed before.
#include "core/passes/recompute.h"

#include <unordered_map>

#include "core/graph/rewriter.h"
#include "core/ops/op_cost.h"

namespace takt {
namespace {

constexpr std::string_view kNames[] = {"none", "selective", "full"};

class Recomputer {
 public:
  Recomputer(const Graph& graph, Recompute what) : graph_(graph), what_(what), rewriter_(graph) {}

  Graph run() && {
    for (const Node& node : graph_.nodes()) {
      const std::span<const ValueId> now = append(node);
      for (std::size_t i = 0; i < now.size(); ++i) rewriter_.redirect(node.outputs[i], now[i]);
    }
    return std::move(rewriter_).finish();
  }

 private:
  // May the layer's backward pass compute the value again?
  bool is_recomputed(ValueId id, int block) const {
    const NodeId producer = graph_.value(id).producer;
    if (producer.index < 0) return false;
    const Node& node = graph_.node(producer);
    return node.tag.is_beside({block, Phase::kForward}) && node.op->in_place.empty() &&
           (what_ == Recompute::kFull || !is_matrix_product(*node.op));
  }

  // Takes a node over, or copies it under another name and into another phase.
  std::span<const ValueId> append(Node node, std::string_view suffix = {}) {
    std::vector<Value> outputs;
    for (const ValueId id : node.outputs) {
      outputs.push_back(graph_.value(id));
      outputs.back().name += suffix;
    }
    for (ValueId& id : node.inputs) id = read(id, node.tag);
    node.name += suffix;
    return rewriter_.graph().append_placed(std::move(node), std::move(outputs));
  }

  // What a node with this tag reads, in the new graph.
  ValueId read(ValueId id, const Tag& tag) {
    if (tag.phase != Phase::kBackward || tag.block < 0 || !is_recomputed(id, tag.block))
      return rewriter_.at(id);
    if (const auto known = copies_.find(id.index); known != copies_.end()) return known->second;
    Node again = graph_.node(graph_.value(id).producer);
    const std::vector<ValueId> originals = again.outputs;
    again.tag = {tag.block, Phase::kBackward, true};
    const std::span<const ValueId> now = append(std::move(again), ".again");
    for (std::size_t i = 0; i < originals.size(); ++i) copies_[originals[i].index] = now[i];
    return copies_.at(id.index);
  }

  const Graph& graph_;
  Recompute what_;
  Rewriter rewriter_;
  std::unordered_map<int, ValueId> copies_;  // in the new graph, by old value
};

}  // namespace

std::span<const std::string_view> recompute_names() {
  return kNames;
}

Graph recomputing(const Graph& differentiated, Recompute what) {
  return Recomputer(differentiated, what).run();
}

}  // namespace takt
