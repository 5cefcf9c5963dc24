// join_programs: the second program's view of persistent values starts where the first one's in-place nodes end.
#include "core/passes/join_programs.h"

#include <map>

namespace takt {
namespace {

// By name of an input or persistent value: the value that holds its contents when the program has run.
std::map<std::string, ValueId> contents_after(const Graph& graph) {
  std::vector<ValueId> origin(graph.values().size());  // the outside value in whose storage a value lies
  std::map<std::string, ValueId> contents;
  for (std::size_t v = 0; v < origin.size(); ++v)
    if (graph.values()[v].role != Role::kIntermediate)
      contents[graph.values()[v].name] = origin[v] = {static_cast<int>(v)};
  for (const Node& node : graph.nodes())
    for (const auto& [output, input] : node.op->in_place) {
      const ValueId before = node.inputs[static_cast<std::size_t>(input)],
                    after = node.outputs[static_cast<std::size_t>(output)];
      const ValueId outside = origin[static_cast<std::size_t>(before.index)];
      if (outside.index < 0) continue;
      origin[static_cast<std::size_t>(after.index)] = outside;
      contents[graph.value(outside).name] = after;
    }
  return contents;
}

}  // namespace

Graph joined(const Graph& first, const Graph& then) {
  Graph result = first;
  const std::map<std::string, ValueId> contents = contents_after(first);
  std::vector<ValueId> moved(then.values().size());
  for (std::size_t v = 0; v < moved.size(); ++v) {
    const Value& value = then.values()[v];
    if (value.role == Role::kIntermediate) continue;
    const auto known = contents.find(value.name);
    moved[v] = known == contents.end() ? result.add_outside(value) : known->second;
    const Value& now = result.value(moved[v]);
    TAKT_ASSERT(now.desc == value.desc && now.placement == value.placement, "joining programs: '", value.name,
                "' is ", now.desc, " ", to_string(now.placement), " in the first, ", value.desc, " ",
                to_string(value.placement), " in the second");
  }
  for (Node node : then.nodes()) {
    std::vector<Value> outputs;
    for (const ValueId id : node.outputs) outputs.push_back(then.value(id));
    for (ValueId& id : node.inputs) id = moved[static_cast<std::size_t>(id.index)];
    const std::vector<ValueId> old = node.outputs;
    const std::span<const ValueId> now = result.append_placed(std::move(node), std::move(outputs));
    for (std::size_t i = 0; i < old.size(); ++i) moved[static_cast<std::size_t>(old[i].index)] = now[i];
  }
  for (const ValueId id : then.outputs()) result.mark_output(moved[static_cast<std::size_t>(id.index)]);
  return result;
}

}  // namespace takt
