// The checks that run after every pass.
#include <unordered_set>

#include "core/graph/graph.h"
#include "core/graph/look_alikes.h"

namespace takt {
namespace {

void check_order(const Graph& graph, std::string_view pass) {
  std::vector<bool> ready(graph.values().size());
  for (std::size_t i = 0; i < ready.size(); ++i) ready[i] = graph.values()[i].role != Role::kIntermediate;
  for (const Node& node : graph.nodes()) {
    for (const ValueId id : node.inputs)
      TAKT_ASSERT(ready[static_cast<std::size_t>(id.index)], "after ", pass, ": node '", node.name,
                  "' reads '", graph.value(id).name, "' before it is computed");
    for (const ValueId id : node.outputs) ready[static_cast<std::size_t>(id.index)] = true;
  }
  for (const ValueId id : graph.outputs())
    TAKT_ASSERT(ready[static_cast<std::size_t>(id.index)], "after ", pass, ": output '", graph.value(id).name,
                "' is never computed");
}

void check_names(const Graph& graph, std::string_view pass) {
  std::unordered_set<std::string_view> names;
  for (const Value& value : graph.values())
    if (value.role != Role::kIntermediate)
      TAKT_ASSERT(names.insert(value.name).second, "after ", pass, ": two values are called '", value.name,
                  "'");
}

void check_shapes(const Graph& graph, std::string_view pass) {
  const LookAlikes alike(graph);
  for (const NodeId first : alike.first_nodes()) {
    const Node& node = graph.node(first);
    OpArgs args = graph.args_of(node);
    const std::vector<TensorDesc> found = std::move(args.outputs);
    args.outputs.clear();
    const std::vector<TensorDesc> wanted = node.op->infer(args);
    TAKT_ASSERT(wanted.size() == found.size(), "after ", pass, ": node '", node.name, "' has ", found.size(),
                " outputs, its rule says ", wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i)
      TAKT_ASSERT(wanted[i] == found[i], "after ", pass, ": node '", node.name, "' (", node.op->name,
                  ") output ", i, " is ", found[i], ", its rule says ", wanted[i]);
  }
}

// An in-place node must be the last reader of what it overwrites.
void check_in_place(const Graph& graph, std::string_view pass) {
  std::vector<std::string_view> overwritten_by(graph.values().size());
  for (const Node& node : graph.nodes()) {
    for (const ValueId id : node.inputs)
      TAKT_ASSERT(overwritten_by[static_cast<std::size_t>(id.index)].empty(), "after ", pass, ": node '",
                  node.name, "' reads '", graph.value(id).name, "', which '",
                  overwritten_by[static_cast<std::size_t>(id.index)], "' has overwritten");
    for (const auto& [output, input] : node.op->in_place)
      overwritten_by[static_cast<std::size_t>(node.inputs[static_cast<std::size_t>(input)].index)] =
          node.name;
  }
  for (const ValueId id : graph.outputs())
    TAKT_ASSERT(overwritten_by[static_cast<std::size_t>(id.index)].empty(), "after ", pass, ": output '",
                graph.value(id).name, "' is overwritten by '",
                overwritten_by[static_cast<std::size_t>(id.index)], "'");
}

// A mesh axis cuts a value along one of its own tensor axes; several may cut the same one.
void check_placements(const Graph& graph, std::string_view pass) {
  for (const Value& value : graph.values())
    for (const AxisPlacement& placement : value.placement)
      TAKT_ASSERT(!placement.is_sharded() || value.desc.has(placement.axis), "after ", pass, ": value '",
                  value.name, "' ", value.desc, " cannot be placed as ", to_string(value.placement));
}

}  // namespace

void verify(const Graph& graph, std::string_view after_pass) {
  check_order(graph, after_pass);
  check_names(graph, after_pass);
  check_shapes(graph, after_pass);
  check_in_place(graph, after_pass);
  check_placements(graph, after_pass);
}

}  // namespace takt
