// What a compiled program costs: sums over its nodes.
#include "core/passes/step_plan.h"

#include <algorithm>

namespace takt {
namespace {

// The node's cost on one device, as the model was written.
double global_flops(const Graph& graph, const Node& node) {
  OpArgs args = graph.args_of(node);
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    args.inputs[i].dims = graph.value(node.inputs[i]).global_dims;
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    args.outputs[i].dims = graph.value(node.outputs[i]).global_dims;
  return node.op->cost(args).flops;
}

bool is_matrix_product(const Node& node) {
  return node.op->name == "matmul" || node.op->name.starts_with("attention");
}

}  // namespace

std::size_t StepPlan::index_of(std::string_view program) const {
  for (std::size_t i = 0; i < programs.size(); ++i)
    if (programs[i].name == program) return i;
  fail(Fault::kBug, "the step has no program '", program, "'");
}

ProgramCost cost_of(const Program& program) {
  ProgramCost total;
  total.num_nodes = program.graph.nodes().size();
  for (const Node& node : program.graph.nodes()) {
    const OpArgs args = program.graph.args_of(node);
    total.flops += node.op->cost(args).flops;
    if (is_matrix_product(node)) total.useful_flops += global_flops(program.graph, node);
    if (!node.op->is_collective || node.op->name == "local_slice" || node.op->name == "keep_on_first")
      continue;
    auto found = std::find_if(total.traffic.begin(), total.traffic.end(), [&](const ProgramCost::Traffic& t) {
      return t.mesh_axis == node.mesh_axis && t.op == node.op->name;
    });
    if (found == total.traffic.end()) found = total.traffic.insert(found, {node.mesh_axis, node.op->name});
    ++found->num_calls;
    for (const TensorDesc& input : args.inputs) found->num_bytes += input.num_bytes();
  }
  return total;
}

}  // namespace takt
