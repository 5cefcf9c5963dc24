// The reference interpreter: every node's reference function in order; nothing is fused, planned or reused.
#include "core/exec/reference.h"

namespace takt {

std::vector<Array> interpret_first(const Graph& graph, const Arrays& outside, std::size_t num_nodes) {
  std::vector<Array> values(graph.values().size());
  for (std::size_t v = 0; v < values.size(); ++v) {
    const Value& value = graph.values()[v];
    values[v].dims = value.desc.dims;
    values[v].data.assign(static_cast<std::size_t>(value.desc.num_elements()), 0.0);
    if (value.role == Role::kIntermediate) continue;
    const auto given = outside.find(value.name);
    if (given == outside.end() && value.role == Role::kAccumulator) continue;  // zero at the start of a step
    TAKT_ASSERT(given != outside.end() && given->second.dims == value.desc.dims, "reference: '", value.name,
                "' is missing or is not ", value.desc);
    values[v].data = given->second.data;
  }
  const auto at = [&](ValueId id) -> Array& { return values[static_cast<std::size_t>(id.index)]; };
  for (std::size_t n = 0; n < num_nodes; ++n) {
    const Node& node = graph.nodes()[n];
    TAKT_ASSERT(node.op->reference != nullptr, "reference: op ", node.op->name, " has no reference");
    std::vector<const Array*> inputs;
    std::vector<Array> outputs;
    for (const ValueId id : node.inputs) inputs.push_back(&at(id));
    for (const ValueId id : node.outputs) outputs.push_back(at(id));
    node.op->reference(graph.args_of(node), inputs, outputs);
    for (std::size_t i = 0; i < outputs.size(); ++i) at(node.outputs[i]) = std::move(outputs[i]);
    for (const auto& [output, input] : node.op->in_place)
      at(node.inputs[static_cast<std::size_t>(input)]).data =
          at(node.outputs[static_cast<std::size_t>(output)]).data;
  }
  return values;
}

std::vector<Array> interpret(const Graph& graph, const Arrays& outside) {
  return interpret_first(graph, outside, graph.nodes().size());
}

}  // namespace takt
