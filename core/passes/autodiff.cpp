// autodiff: walks the nodes backwards and asks each for the gradients of its inputs; values used twice get
// the sum.
#include "core/passes/autodiff.h"

#include <algorithm>
#include <map>

#include "core/ops/builders.h"

namespace takt {
namespace {

bool any_depends(const Node& node, const std::vector<bool>& depends) {
  return std::any_of(node.inputs.begin(), node.inputs.end(),
                     [&](ValueId id) { return depends[static_cast<std::size_t>(id.index)]; });
}

// Which values are or depend on a wanted one: only towards those do gradients flow.
std::vector<bool> depends_on(const Graph& graph, std::span<const ValueId> wanted) {
  std::vector<bool> depends(graph.values().size());
  for (const ValueId id : wanted) depends[static_cast<std::size_t>(id.index)] = true;
  for (const Node& node : graph.nodes()) {
    if (!any_depends(node, depends)) continue;
    for (const ValueId id : node.outputs) depends[static_cast<std::size_t>(id.index)] = true;
  }
  return depends;
}

// The gradients that flow into each value, in the order in which they were found.
class Flows {
 public:
  void add_flow(ValueId value, ValueId gradient) { flows_[value.index].push_back(gradient); }

  // The sum of everything that flowed in so far, or nothing.
  std::optional<ValueId> total(Graph& graph, ValueId value) {
    const auto found = flows_.find(value.index);
    if (found == flows_.end()) return std::nullopt;
    std::vector<ValueId>& terms = found->second;
    if (terms.size() > 1) terms = {add(graph, terms, "d." + graph.value(value).name)};
    return terms.front();
  }

 private:
  std::map<int, std::vector<ValueId>> flows_;
};

}  // namespace

std::vector<ValueId> differentiate(Graph& graph, ValueId loss, std::span<const ValueId> wanted) {
  TAKT_ASSERT(graph.value(loss).desc.dims.empty(), "autodiff: the loss '", graph.value(loss).name,
              "' must be a scalar, is ", graph.value(loss).desc);
  const std::vector<bool> depends = depends_on(graph, wanted);
  const Tag tag = graph.tag();
  graph.set_tag({graph.node(graph.value(loss).producer).tag.block, Phase::kBackward});
  Flows flows;
  flows.add_flow(loss, fill(graph, graph.value(loss).desc, 1.0, "d." + graph.value(loss).name));
  for (int n = graph.value(loss).producer.index; n >= 0; --n) {
    const Node node = graph.node({n});  // a copy: the graph grows below
    graph.set_tag({node.tag.block, Phase::kBackward});
    std::vector<std::optional<ValueId>> output_grads;
    bool any = false;
    for (const ValueId output : node.outputs) {
      output_grads.push_back(flows.total(graph, output));
      any = any || output_grads.back().has_value();
    }
    if (!any || !any_depends(node, depends)) continue;
    TAKT_REQUIRE(node.op->grad != nullptr, "autodiff: op ", node.op->name, " ('", node.name,
                 "') is not differentiable");
    const auto grads = node.op->grad({graph, node, output_grads});
    TAKT_ASSERT(grads.size() == node.inputs.size(), "autodiff: op ", node.op->name, " returned ",
                grads.size(), " gradients for ", node.inputs.size(), " inputs");
    for (std::size_t i = 0; i < grads.size(); ++i)
      if (grads[i] && depends[static_cast<std::size_t>(node.inputs[i].index)])
        flows.add_flow(node.inputs[i], *grads[i]);
  }
  std::vector<ValueId> results;
  for (const ValueId id : wanted) {
    const auto total = flows.total(graph, id);
    TAKT_REQUIRE(total.has_value(), "autodiff: '", graph.value(id).name, "' does not reach the loss");
    results.push_back(*total);
  }
  graph.set_tag(tag);
  return results;
}

}  // namespace takt
