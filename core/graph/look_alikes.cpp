// Values are numbered first, so that a node's look is a short list of numbers.
#include "core/graph/look_alikes.h"

#include <span>
#include <unordered_map>

#include "core/base/hash.h"

namespace takt {
namespace {

template <class T>
std::uint64_t number(T x) {
  return static_cast<std::uint64_t>(x);
}

struct ValueHash {
  std::uint64_t operator()(const Value* value) const {
    std::uint64_t hash = combined_hash(number(value->role), number(value->desc.dtype));
    for (const Dim& dim : value->desc.dims)
      hash = combined_hash(combined_hash(hash, dim.axis.hash()), number(dim.extent));
    for (const Dim& dim : value->global_dims) hash = combined_hash(hash, number(dim.extent));
    for (const AxisPlacement& axis : value->placement)
      hash = combined_hash(combined_hash(hash, number(axis.kind)), axis.axis.hash());
    return hash;
  }
};

struct SameValue {
  bool operator()(const Value* a, const Value* b) const {
    return a->role == b->role && a->desc == b->desc && a->global_dims == b->global_dims &&
           a->placement == b->placement;
  }
};

// What of an attribute tells nodes apart most often; equality looks at everything.
struct AttrHash {
  std::uint64_t operator()(const Axis& axis) const { return axis.hash(); }
  std::uint64_t operator()(const std::string& text) const { return StringHash()(text); }
  std::uint64_t operator()(const AxisNames& axes) const {
    std::uint64_t hash = axes.size();
    for (const Axis& axis : axes) hash = combined_hash(hash, axis.hash());
    return hash;
  }
  std::uint64_t operator()(const Dims& dims) const { return of(dims); }
  std::uint64_t operator()(const std::vector<Dim>& dims) const { return of(dims); }
  static std::uint64_t of(std::span<const Dim> dims) {
    std::uint64_t hash = dims.size();
    for (const Dim& dim : dims)
      hash = combined_hash(combined_hash(hash, dim.axis.hash()), number(dim.extent));
    return hash;
  }
  std::uint64_t operator()(auto value) const { return std::hash<decltype(value)>()(value); }
};

struct NodeHash {
  std::uint64_t operator()(const Node* node) const {
    std::uint64_t hash = StringHash()(node->op->name);
    for (const auto& [name, attr] : node->attrs.entries())
      hash = combined_hash(hash, std::visit(AttrHash(), attr));
    for (const Axis& axis : node->mesh_axes) hash = combined_hash(hash, axis.hash());
    return hash;
  }
};

struct SameUse {
  bool operator()(const Node* a, const Node* b) const {
    return a->op == b->op && a->attrs == b->attrs && a->mesh_axes == b->mesh_axes;
  }
};

}  // namespace

LookAlikes::LookAlikes(const Graph& graph) {
  number_values(graph);
  number_nodes(graph);
}

void LookAlikes::number_values(const Graph& graph) {
  std::unordered_map<const Value*, int, ValueHash, SameValue> numbers;
  values_.reserve(graph.values().size());
  for (const Value& value : graph.values())
    values_.push_back(numbers.try_emplace(&value, static_cast<int>(numbers.size())).first->second);
}

void LookAlikes::number_nodes(const Graph& graph) {
  std::unordered_map<const Node*, int, NodeHash, SameUse> uses;
  std::unordered_map<std::vector<int>, int, HashOfNumbers> numbers;
  std::vector<int> look;  // the use of an op, how many inputs, inputs, outputs
  nodes_.reserve(graph.nodes().size());
  for (const Node& node : graph.nodes()) {
    look = {uses.try_emplace(&node, static_cast<int>(uses.size())).first->second,
            static_cast<int>(node.inputs.size())};
    for (const ValueId id : node.inputs) look.push_back(look_of(id));
    for (const ValueId id : node.outputs) look.push_back(look_of(id));
    const auto [entry, is_new] = numbers.try_emplace(look, static_cast<int>(numbers.size()));
    if (is_new) first_nodes_.push_back({static_cast<int>(nodes_.size())});
    nodes_.push_back(entry->second);
  }
}

}  // namespace takt
