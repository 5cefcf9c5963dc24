// What all executors do alike.
#include "core/exec/executor.h"

#include "core/passes/shard_ranges.h"

namespace takt {

void Executor::run(std::span<const Action> actions) {
  for (const Action& action : actions) run(action);
}

std::byte* Executor::address(std::byte* arena, std::size_t program, ValueId id, std::size_t slot) const {
  std::byte* first = arena + plan_.arena.programs[program].value_offsets[static_cast<std::size_t>(id.index)];
  const Value& value = plan_.programs[program].graph.value(id);
  if (slot == 0 || value.role != Role::kInput) return first;
  return first + slot * plan_.arena.persistents.at(value.name).slot_stride;
}

KernelNode Executor::kernel_node(const Graph& graph, const Node& node, const MeshGroups& groups) const {
  KernelNode view{graph.args_of(node)};
  view.ranges = axis_ranges(graph, node, plan_.mesh, coordinates());
  view.num_threads = plan_.device.num_threads;
  if (node.op->needs_group) view.group = &groups.of(node.mesh_axes);
  return view;
}

OpTime* Executor::time_of(const Graph& graph, const Node& node) {
  const Node& timed = node.op->awaits ? graph.node(graph.value(node.inputs[0]).producer) : node;
  const std::string mesh_axes = timed.mesh_axes.empty() ? "" : concat("<", to_string(timed.mesh_axes), ">");
  return &times_.ops[concat(node.op->awaits ? "wait for " : "", timed.op->name, mesh_axes)];
}

std::vector<Padding> Executor::padding_of_outputs(std::byte* arena, std::size_t program,
                                                  const Node& node) const {
  std::vector<Padding> all;
  for (const ValueId id : node.outputs)
    for (const Padding& padding : padding_of(plan_.programs[program].graph.value(id),
                                             address(arena, program, id), plan_.mesh, coordinates()))
      all.push_back(padding);
  return all;
}

void Executor::start_read(std::span<const std::string_view> outputs, std::size_t slot) {
  std::vector<std::byte>& bytes = readings_.at(slot);
  bytes.clear();
  for (const std::string_view name : outputs) {
    const std::size_t first = bytes.size();
    bytes.resize(first + plan_.locate(name).desc.num_bytes());
    read(name, std::span(bytes).subspan(first));
  }
}

std::span<const std::byte> Executor::finish_read(std::size_t slot) {
  return readings_.at(slot);
}

void Executor::reset_times() {
  times_.forward_backward_s = times_.update_s = times_.collective_s = times_.exposed_s = 0;
  for (auto& [name, time] : times_.ops) time = {};
}

Snapshot Executor::snapshot() const {
  Snapshot snapshot;
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kParameter && value.role != Role::kState) continue;
    std::vector<std::byte>& bytes = snapshot[value.name];
    bytes.resize(value.desc.num_bytes());
    read(value.name, bytes);
  }
  return snapshot;
}

}  // namespace takt
