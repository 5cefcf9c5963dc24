// What a compiled program costs: sums over its nodes.
#include "core/passes/step_plan.h"

#include "core/ops/op_cost.h"
#include "core/passes/check_memory.h"

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
  return cost_of(*node.op, args).flops;
}

}  // namespace

std::size_t StepPlan::index_of(std::string_view program) const {
  for (std::size_t i = 0; i < programs.size(); ++i)
    if (programs[i].name == program) return i;
  fail(Fault::kBug, "the step has no program '", program, "'");
}

void add_program(StepPlan& plan, std::string_view name, Graph local) {
  plan.table.add(local, name);
  plan.programs.push_back({std::string(name), std::move(local)});
}

void finish(StepPlan& plan) {
  std::vector<Lifetimes> lives;
  for (const Program& program : plan.programs)
    lives.push_back(packed_lifetimes_of(program.graph, plan.mesh, plan.device));
  lay_out(plan, lives);
  verify(plan);
}

void lay_out(StepPlan& plan, std::span<const Lifetimes> lives) {
  std::vector<const Graph*> graphs;
  for (const Program& program : plan.programs) graphs.push_back(&program.graph);
  plan.arena = plan_memory(plan.table, graphs, lives);
}

StepPlan::Location StepPlan::locate(std::string_view name, std::size_t program) const {
  if (const PersistentValue* value = table.find(name)) {
    const ArenaPlan::Place& place = arena.persistents.at(value->name);
    return {value->desc, value->global_dims, value->placement, place.offset, place.slot_stride};
  }
  for (std::size_t i = 0; i <= programs.size(); ++i) {
    const std::size_t p = i == 0 ? program : i - 1;
    for (const ValueId id : programs.at(p).graph.outputs()) {
      const Value& value = programs[p].graph.value(id);
      if (value.name == name)
        return {value.desc, value.global_dims, value.placement,
                arena.programs[p].value_offsets[static_cast<std::size_t>(id.index)], 0};
    }
  }
  fail(Fault::kBug, "the step has no input, persistent value or output '", name, "'");
}

namespace {

void require_kernel(const Graph& graph, const Node& node, DeviceKind device) {
  const DeviceKernel& kernel = kernel_of(*node.op, device);
  const char* name = device == DeviceKind::kCuda ? "CUDA" : "CPU";
  TAKT_REQUIRE(kernel.prepare != nullptr, "op ", node.op->name, " ('", node.name, "') has no ", name,
               " kernel", device == DeviceKind::kCuda ? " in this build" : "");
  const auto check = [&](ValueId id) {
    const TensorDesc& desc = graph.value(id).desc;
    TAKT_REQUIRE(
        desc.dtype == DType::kF32 || desc.dtype == DType::kI32 || (desc.dtype == DType::kBF16 && kernel.bf16),
        "the ", name, " kernel of ", node.op->name, " ('", node.name, "') does not take ", desc);
  };
  for (const ValueId id : node.inputs) check(id);
  for (const ValueId id : node.outputs) check(id);
}

void require_adjacent(const Graph& graph, const Node& node, const ProgramMemory& memory) {
  if (!node.op->side_by_side || node.inputs.size() < 2) return;
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    const std::size_t before = memory.value_offsets[static_cast<std::size_t>(node.outputs[i - 1].index)],
                      here = memory.value_offsets[static_cast<std::size_t>(node.outputs[i].index)];
    TAKT_ASSERT(here == before + aligned(graph.value(node.outputs[i - 1]).desc.num_bytes()), "bucket '",
                node.name, "': member ", i, " does not lie behind the one before it");
  }
}

}  // namespace

void verify(const StepPlan& plan) {
  for (std::size_t p = 0; p < plan.programs.size(); ++p) {
    const Graph& graph = plan.programs[p].graph;
    const LookAlikes alike(graph);
    verify(graph, alike, "plan");
    plan.table.require(graph, plan.programs[p].name);
    for (const NodeId first : alike.first_nodes()) require_kernel(graph, graph.node(first), plan.device.kind);
    for (const Node& node : graph.nodes()) require_adjacent(graph, node, plan.arena.programs[p]);
    check_memory(plan.programs[p].name, graph, plan.arena.programs[p],
                 scratch_of_nodes(graph, alike, plan.mesh, plan.device));
  }
  for (const std::vector<Action>* actions : {&plan.start, &plan.step, &plan.evaluate})
    for (const Action& action : *actions)
      TAKT_ASSERT(action.program >= 0 && static_cast<std::size_t>(action.program) < plan.programs.size(),
                  "an action runs program ", action.program, " of ", plan.programs.size());
}

ProgramCost cost_of(const Program& program) {
  ProgramCost total;
  for (const Node& node : program.graph.nodes()) {
    total.num_nodes += node.op->awaits ? 0 : 1;
    total.num_recomputed += node.tag.is_recomputed ? 1 : 0;
    const OpArgs args = program.graph.args_of(node);
    total.flops += cost_of(*node.op, args).flops;
    if (is_matrix_product(*node.op) && !node.tag.is_recomputed)
      total.useful_flops += global_flops(program.graph, node);
    if (!node.op->communicates) continue;
    const std::string mesh_axes = to_string(node.mesh_axes);
    auto found = std::find_if(total.traffic.begin(), total.traffic.end(), [&](const ProgramCost::Traffic& t) {
      return t.mesh_axes == mesh_axes && t.op == node.op->name;
    });
    if (found == total.traffic.end()) found = total.traffic.insert(found, {mesh_axes, node.op->name});
    ++found->num_calls;
    for (const TensorDesc& input : args.inputs) found->num_bytes += input.num_bytes();
  }
  return total;
}

}  // namespace takt
