// Building, pruning and printing graphs.
#include "core/graph/graph.h"

#include <algorithm>

namespace takt {

bool is_persistent(Role role) {
  return role == Role::kParameter || role == Role::kState || role == Role::kAccumulator;
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kIntermediate:
      return "value";
    case Role::kInput:
      return "input";
    case Role::kParameter:
      return "parameter";
    case Role::kState:
      return "state";
    case Role::kAccumulator:
      return "accumulator";
  }
  fail(Fault::kBug, "name_of: unknown role");
}

AxisRange CpuNode::range(const TensorDesc& desc, std::string_view axis) const {
  for (const AxisRange& range : ranges)
    if (range.axis == axis) return range;
  const std::int64_t extent = desc.extent(axis);
  return {std::string(axis), 0, extent, extent};
}

ValueId Graph::add_value(Value value) {
  if (value.global_dims.empty()) value.global_dims = value.desc.dims;
  values_.push_back(std::move(value));
  return {static_cast<int>(values_.size()) - 1};
}

ValueId Graph::input(const std::string& name, TensorDesc desc) {
  return add_value({.name = name, .desc = std::move(desc), .role = Role::kInput});
}

ValueId Graph::parameter(const std::string& name, TensorDesc desc, ParameterInfo info) {
  if (const auto known = find(name)) {
    TAKT_ASSERT(value(*known).desc == desc, "parameter '", name, "' is used as ", desc, " and as ",
                value(*known).desc);
    return *known;
  }
  return add_value(
      {.name = name, .desc = std::move(desc), .role = Role::kParameter, .parameter = std::move(info)});
}

ValueId Graph::persistent(const std::string& name, TensorDesc desc, Role role) {
  TAKT_ASSERT(is_persistent(role) && !find(name), "persistent value '", name, "' exists already");
  return add_value({.name = name, .desc = std::move(desc), .role = role});
}

std::vector<ValueId> Graph::append(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                                   const std::string& name) {
  Node node{.op = &op, .name = name, .inputs = std::move(inputs), .attrs = std::move(attrs)};
  const std::vector<TensorDesc> descs = op.infer(args_of(node));
  std::vector<Value> outputs;
  for (std::size_t i = 0; i < descs.size(); ++i)
    outputs.push_back({.name = i == 0 ? name : name + "." + std::to_string(i), .desc = descs[i]});
  return append_placed(std::move(node), outputs);
}

ValueId Graph::append_one(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                          const std::string& name) {
  const std::vector<ValueId> outputs = append(op, std::move(inputs), std::move(attrs), name);
  TAKT_ASSERT(outputs.size() == 1, op.name, " '", name, "' has ", outputs.size(), " outputs, not one");
  return outputs.front();
}

ValueId Graph::add_outside(const Value& value) {
  TAKT_ASSERT(value.role != Role::kIntermediate, "add_outside: '", value.name, "' is computed by a node");
  return add_value(value);
}

std::vector<ValueId> Graph::append_placed(Node node, std::span<const Value> outputs) {
  const NodeId id{static_cast<int>(nodes_.size())};
  node.outputs.clear();
  for (Value output : outputs) {
    output.producer = id;
    node.outputs.push_back(add_value(std::move(output)));
  }
  nodes_.push_back(std::move(node));
  return nodes_.back().outputs;
}

const Value& Graph::value(ValueId id) const {
  TAKT_ASSERT(id.index >= 0 && id.index < static_cast<int>(values_.size()), "no value %", id.index);
  return values_[static_cast<std::size_t>(id.index)];
}

Value& Graph::value(ValueId id) {
  return const_cast<Value&>(std::as_const(*this).value(id));
}

const Node& Graph::node(NodeId id) const {
  TAKT_ASSERT(id.index >= 0 && id.index < static_cast<int>(nodes_.size()), "no node ", id.index);
  return nodes_[static_cast<std::size_t>(id.index)];
}

std::optional<ValueId> Graph::find(std::string_view name) const {
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (values_[i].name == name) return ValueId{static_cast<int>(i)};
  return std::nullopt;
}

OpArgs Graph::args_of(const Node& node) const {
  OpArgs args{.name = node.name, .attrs = node.attrs, .inputs = {}, .outputs = {}};
  for (const ValueId id : node.inputs) args.inputs.push_back(value(id).desc);
  for (const ValueId id : node.outputs) args.outputs.push_back(value(id).desc);
  return args;
}

Graph Graph::pruned() const {
  std::vector<bool> value_needed(values_.size(), false);
  std::vector<bool> node_needed(nodes_.size(), false);
  for (const ValueId id : outputs_) value_needed[static_cast<std::size_t>(id.index)] = true;
  for (std::size_t i = nodes_.size(); i-- > 0;) {
    const Node& node = nodes_[i];
    node_needed[i] =
        !node.op->in_place.empty() || std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
          return value_needed[static_cast<std::size_t>(id.index)];
        });
    if (node_needed[i])
      for (const ValueId id : node.inputs) value_needed[static_cast<std::size_t>(id.index)] = true;
  }
  Graph result;
  std::vector<ValueId> moved(values_.size());
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (values_[i].role != Role::kIntermediate) moved[i] = result.add_outside(values_[i]);
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (!node_needed[i]) continue;
    Node node = nodes_[i];
    std::vector<Value> outputs;
    for (const ValueId id : node.outputs) outputs.push_back(value(id));
    for (ValueId& id : node.inputs) id = moved[static_cast<std::size_t>(id.index)];
    const std::vector<ValueId> ids = result.append_placed(std::move(node), outputs);
    for (std::size_t k = 0; k < ids.size(); ++k)
      moved[static_cast<std::size_t>(nodes_[i].outputs[k].index)] = ids[k];
  }
  for (const ValueId id : outputs_) result.mark_output(moved[static_cast<std::size_t>(id.index)]);
  return result;
}

std::string to_string(const Graph& graph) {
  std::string text;
  const auto describe = [&](ValueId id) {
    const Value& value = graph.value(id);
    const std::string placement = value.placement.empty() ? "" : " " + to_string(value.placement);
    return "%" + std::to_string(id.index) + " " + to_string(value.desc) + placement;
  };
  for (std::size_t i = 0; i < graph.values().size(); ++i) {
    const Value& value = graph.values()[i];
    if (value.role != Role::kIntermediate)
      text += describe({static_cast<int>(i)}) + " = " + std::string(name_of(value.role)) + "  # " +
              value.name + "\n";
  }
  for (const Node& node : graph.nodes()) {
    std::string line;
    for (const ValueId id : node.outputs) line += (line.empty() ? "" : ", ") + describe(id);
    line += " = " + node.op->name + (node.mesh_axis.empty() ? "" : "<" + node.mesh_axis + ">") + "(";
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      line += (i ? ", %" : "%") + std::to_string(node.inputs[i].index);
    line += ")";
    if (!node.attrs.entries().empty()) line += " " + to_string(node.attrs);
    text += line + "  # " + node.name + "\n";
  }
  text += "outputs";
  for (const ValueId id : graph.outputs()) text += " %" + std::to_string(id.index);
  return text + "\n";
}

}  // namespace takt
