// Building, pruning and printing graphs.
#include "core/graph/graph.h"

#include <algorithm>

#include "core/graph/rewriter.h"

namespace takt {

bool is_persistent(Role role) {
  return role != Role::kIntermediate && role != Role::kInput;
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
    case Role::kDerived:
      return "derived";
  }
  fail(Fault::kBug, "name_of: unknown role");
}

std::string_view name_of(Phase phase) {
  constexpr std::string_view names[] = {"forward", "backward", "update"};
  return names[static_cast<std::size_t>(phase)];
}

AxisRange KernelNode::range(const TensorDesc& desc, const Axis& axis) const {
  for (const AxisRange& range : ranges)
    if (range.axis == axis) return range;
  const std::int64_t extent = desc.extent(axis);
  return {axis, 0, extent, extent};
}

ValueId Graph::add_value(Value&& value) {
  if (value.global_dims.empty()) value.global_dims = value.desc.dims;
  const auto index = static_cast<int>(values_.size());
  if (value.role != Role::kIntermediate) outside_.emplace(value.name, index);
  values_.push_back(std::move(value));
  return {index};
}

ValueId Graph::input(const std::string& name, TensorDesc desc) {
  return add_value({.name = name, .desc = std::move(desc), .role = Role::kInput});
}

ValueId Graph::parameter(const std::string& name, TensorDesc desc, ParameterInfo info) {
  if (const std::optional<ValueId> known = find_outside(name)) {
    TAKT_ASSERT(value(*known).desc == desc, "parameter '", name, "' is used as ", desc, " and as ",
                value(*known).desc);
    return *known;
  }
  return add_value(
      {.name = name, .desc = std::move(desc), .role = Role::kParameter, .parameter = std::move(info)});
}

ValueId Graph::persistent(const std::string& name, TensorDesc desc, Role role, const std::string& of) {
  TAKT_ASSERT(is_persistent(role) && !find_outside(name), "persistent value '", name, "' exists already");
  return add_value({.name = name, .desc = std::move(desc), .role = role, .of = of});
}

std::vector<ValueId> Graph::append(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                                   const std::string& name) {
  Node node{.op = &op, .name = name, .inputs = std::move(inputs), .attrs = std::move(attrs), .tag = tag_};
  const std::vector<TensorDesc> descs = op.infer(args_of(node));
  std::vector<Value> outputs(descs.size());
  for (std::size_t i = 0; i < descs.size(); ++i) {
    outputs[i].name = i == 0 ? name : name + "." + std::to_string(i);
    outputs[i].desc = descs[i];
  }
  const std::span<const ValueId> ids = append_placed(std::move(node), std::move(outputs));
  return {ids.begin(), ids.end()};
}

ValueId Graph::append_one(const OpDef& op, std::vector<ValueId> inputs, Attrs attrs,
                          const std::string& name) {
  const std::vector<ValueId> outputs = append(op, std::move(inputs), std::move(attrs), name);
  TAKT_ASSERT(outputs.size() == 1, op.name, " '", name, "' has ", outputs.size(), " outputs, not one");
  return outputs.front();
}

ValueId Graph::add_outside(Value value) {
  TAKT_ASSERT(value.role != Role::kIntermediate, "add_outside: '", value.name, "' is computed by a node");
  return add_value(std::move(value));
}

std::span<const ValueId> Graph::append_placed(Node node, std::vector<Value> outputs) {
  append_placed(std::move(node));
  nodes_.back().outputs.reserve(outputs.size());
  for (Value& output : outputs) add_output(std::move(output));
  return nodes_.back().outputs;
}

NodeId Graph::append_placed(Node node) {
  nodes_.push_back(std::move(node));
  nodes_.back().outputs.clear();
  return {static_cast<int>(nodes_.size()) - 1};
}

ValueId Graph::add_output(Value&& value) {
  value.producer = {static_cast<int>(nodes_.size()) - 1};
  const ValueId id = add_value(std::move(value));
  nodes_.back().outputs.push_back(id);
  return id;
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

Node& Graph::node(NodeId id) {
  return const_cast<Node&>(std::as_const(*this).node(id));
}

std::optional<ValueId> Graph::find(std::string_view name) const {
  if (const std::optional<ValueId> outside = find_outside(name)) return outside;
  for (std::size_t i = 0; i < values_.size(); ++i)
    if (values_[i].name == name) return ValueId{static_cast<int>(i)};
  return std::nullopt;
}

std::optional<ValueId> Graph::find_outside(std::string_view name) const {
  const auto found = outside_.find(name);
  return found == outside_.end() ? std::nullopt : std::optional(ValueId{found->second});
}

void Graph::reserve(std::size_t num_values, std::size_t num_nodes) {
  values_.reserve(num_values);
  nodes_.reserve(num_nodes);
}

OpArgs Graph::args_of(const Node& node) const {
  OpArgs args{.name = node.name, .attrs = node.attrs, .inputs = {}, .outputs = {}};
  args.inputs.reserve(node.inputs.size());
  args.outputs.reserve(node.outputs.size());
  for (const ValueId id : node.inputs) args.inputs.push_back(value(id).desc);
  for (const ValueId id : node.outputs) args.outputs.push_back(value(id).desc);
  return args;
}

void Graph::set_extent(const Axis& axis, std::int64_t extent) {
  const auto set = [&](Dims& dims) {
    const int found = find_axis(dims, axis);
    if (found >= 0) dims[static_cast<std::size_t>(found)].extent = extent;
  };
  const auto has_axis = [&](const Attrs::Entry& entry) {
    const Dims* dims = std::get_if<Dims>(&entry.second);
    return dims != nullptr && find_axis(*dims, axis) >= 0;
  };
  for (Value& value : values_) {
    set(value.desc.dims);
    set(value.global_dims);
  }
  for (Node& node : nodes_) {
    const std::vector<Attrs::Entry>& entries = std::as_const(node.attrs).entries();
    if (std::none_of(entries.begin(), entries.end(), has_axis)) continue;
    for (auto& [name, attr] : node.attrs.entries())
      if (Dims* dims = std::get_if<Dims>(&attr)) set(*dims);
  }
}

void Graph::reorder(std::span<const int> order) {
  TAKT_ASSERT(order.size() == nodes_.size(), "an order of ", order.size(), " for ", nodes_.size(), " nodes");
  std::vector<Node> nodes;
  nodes.reserve(order.size());
  for (const int n : order) {
    nodes.push_back(std::move(nodes_[static_cast<std::size_t>(n)]));
    for (const ValueId id : nodes.back().outputs) value(id).producer = {static_cast<int>(nodes.size()) - 1};
  }
  nodes_ = std::move(nodes);
}

void Graph::redirect(std::span<const ValueId> now) {
  const auto follow = [&](ValueId& id, int reader) {
    const auto v = static_cast<std::size_t>(id.index);
    if (v < now.size() && now[v].index >= 0 && value(now[v]).producer.index != reader) id = now[v];
  };
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    for (ValueId& id : nodes_[n].inputs) follow(id, static_cast<int>(n));
  for (ValueId& id : outputs_) follow(id, -1);
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
  Rewriter rewriter(*this);
  for (std::size_t i = 0; i < nodes_.size(); ++i)
    if (node_needed[i]) rewriter.copy(nodes_[i]);
  return std::move(rewriter).finish();
}

Users::Users(const Graph& graph) : first_(graph.values().size() + 1) {
  for (const Node& node : graph.nodes())
    for (const ValueId id : node.inputs) ++first_[static_cast<std::size_t>(id.index) + 1];
  for (std::size_t v = 1; v < first_.size(); ++v) first_[v] += first_[v - 1];
  nodes_.resize(first_.back());
  std::vector<std::size_t> next = first_;
  for (std::size_t n = 0; n < graph.nodes().size(); ++n)
    for (const ValueId id : graph.nodes()[n].inputs)
      nodes_[next[static_cast<std::size_t>(id.index)]++] = {static_cast<int>(n)};
}

std::span<const NodeId> Users::of(ValueId value) const {
  const auto v = static_cast<std::size_t>(value.index);
  return {nodes_.data() + first_[v], first_[v + 1] - first_[v]};
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
    line += " = " + node.op->name + (node.mesh_axes.empty() ? "" : "<" + to_string(node.mesh_axes) + ">");
    line += (node.stream > 0 ? "@" + std::to_string(node.stream) : "") + "(";
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
