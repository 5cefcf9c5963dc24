// parallelize: nodes are taken in order; along each mesh axis every node gets the cheapest of its op's
// signatures.
//
// The price of a signature is what it moves: conversions of inputs that are not there yet, and, for a partial
// output, the reduction that it will owe. Local work (slices, masks, the size of the outputs) breaks ties.
// Converted values are kept, so that a value is gathered or reduced once however many nodes want it.
#include "core/passes/parallelize.h"

#include <algorithm>
#include <limits>
#include <set>

#include "core/ops/builders.h"

namespace takt {
namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();
constexpr double kLatencyBytes = 4096;  // a collective's fixed price, as bytes
constexpr double kLocalShare = 1e-3;    // the price of touching a byte locally
constexpr double kParameterMoves =
    1e6;  // how much dearer moving a parameter is: only where there is no other way
constexpr double kAtRest = 1 - 1e-9;  // the discount for needing no conversion: breaks exact ties only

class Parallelizer {
 public:
  Parallelizer(const Graph& global, const Mesh& mesh, std::span<const ShardingRule> rules,
               PersistentPlacements& persistents)
      : global_(global),
        mesh_(mesh),
        rules_(rules),
        persistents_(persistents),
        copies_(global.values().size()) {}

  Graph run() {
    for (std::size_t i = 0; i < global_.values().size(); ++i)
      if (global_.values()[i].role != Role::kIntermediate) place_outside_value({static_cast<int>(i)});
    for (const Node& node : global_.nodes()) place_node(node);
    for (const ValueId output : global_.outputs())
      local_.mark_output(converted(output, whole_but_batch(output)));
    return std::move(local_);
  }

 private:
  // One version of a global value in the local graph.
  struct Copy {
    Placement placement;
    ValueId local;
  };

  void place_outside_value(ValueId id) {
    const Value& value = global_.value(id);
    const auto known = persistents_.find(value.name);
    if (known == persistents_.end() && value.role == Role::kAccumulator) return;  // placed at its first use
    const Placement placement = known != persistents_.end() && is_persistent(value.role)
                                    ? known->second
                                    : placement_by_rule(rules_, mesh_, value.desc, value.name);
    add_outside_value(id, placement);
  }

  void add_outside_value(ValueId id, const Placement& placement) {
    const Value& value = global_.value(id);
    const TensorDesc desc{local_dims(value.desc.dims, placement, mesh_), value.desc.dtype};
    ValueId local;
    if (value.role == Role::kInput)
      local = local_.input(value.name, desc);
    else if (value.role == Role::kParameter)
      local = local_.parameter(value.name, desc, value.parameter.value());
    else
      local = local_.persistent(value.name, desc, value.role);
    local_.value(local).global_dims = value.desc.dims;
    local_.value(local).placement = placement;
    copies(id).push_back({placement, local});
    if (is_persistent(value.role)) persistents_[value.name] = placement;
  }

  std::vector<Copy>& copies(ValueId id) { return copies_[static_cast<std::size_t>(id.index)]; }

  void place_node(const Node& node) {
    const OpArgs args = global_.args_of(node);
    std::vector<Placement> inputs(node.inputs.size(), Placement(mesh_.axes.size()));
    std::vector<Placement> outputs(node.outputs.size(), Placement(mesh_.axes.size()));
    for (std::size_t m = 0; m < mesh_.axes.size(); ++m) {
      const OpPlacement chosen = choose(node, args, m);
      for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i][m] = chosen.inputs[i];
      for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i][m] = chosen.outputs[i];
    }
    Node local{.op = node.op, .name = node.name, .attrs = node.attrs};
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (copies(node.inputs[i]).empty()) add_outside_value(node.inputs[i], inputs[i]);
      local.inputs.push_back(converted(node.inputs[i], inputs[i]));
    }
    localize(local.attrs, outputs.front());
    std::vector<Value> values;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Value& value = global_.value(node.outputs[i]);
      values.push_back({.name = value.name,
                        .desc = {local_dims(value.desc.dims, outputs[i], mesh_), value.desc.dtype},
                        .global_dims = value.desc.dims,
                        .placement = outputs[i]});
    }
    const std::vector<ValueId> ids = local_.append_placed(std::move(local), values);
    for (std::size_t i = 0; i < ids.size(); ++i) copies(node.outputs[i]) = {{outputs[i], ids[i]}};
  }

  // Shape attributes of a node follow its first output.
  void localize(Attrs& attrs, const Placement& output) const {
    for (auto& [name, attr] : attrs.entries())
      if (Dims* dims = std::get_if<Dims>(&attr)) *dims = local_dims(*dims, output, mesh_);
  }

  OpPlacement choose(const Node& node, const OpArgs& args, std::size_t m) {
    TAKT_ASSERT(node.op->placements != nullptr, "op ", node.op->name, " has no placement rule");
    std::vector<OpPlacement> signatures = node.op->placements(args);
    const OpPlacement* best = nullptr;
    double best_price = kImpossible;
    for (const OpPlacement& signature : signatures) {
      const double price = price_of(node, args, signature, m);
      if (price < best_price) {
        best_price = price;
        best = &signature;
      }
    }
    TAKT_REQUIRE(best != nullptr, "mesh: op ", node.op->name, " '", node.name, "' cannot be placed over ",
                 mesh_.axes[m].name, "=", mesh_.axes[m].size, describe_inputs(node, m),
                 "\n  make the axes above divisible, or choose a smaller ", mesh_.axes[m].name);
    return *best;
  }

  std::string describe_inputs(const Node& node, std::size_t m) {
    std::string text;
    for (const ValueId id : node.inputs)
      text += "\n  input '" + global_.value(id).name + "' " + to_string(global_.value(id).desc) + " is " +
              (copies(id).empty() ? "not placed" : to_string(copies(id).front().placement[m]));
    return text;
  }

  bool allowed(const AxisPlacement& placement, const TensorDesc& desc, std::size_t m) const {
    if (mesh_.axes[m].size == 1) return placement.is_replicated();
    return !placement.is_sharded() ||
           may_shard(rules_, mesh_.axes[m], {placement.axis, desc.extent(placement.axis)});
  }

  // Where an axis is split or merged (reshape), the pieces before and after match only if nothing is padded.
  bool pieces_match(const OpArgs& args, const OpPlacement& signature, std::size_t m) const {
    std::set<std::int64_t> extents;
    for (std::size_t i = 0; i < args.inputs.size(); ++i)
      if (signature.inputs[i].is_sharded()) extents.insert(args.inputs[i].extent(signature.inputs[i].axis));
    for (std::size_t i = 0; i < args.outputs.size(); ++i)
      if (signature.outputs[i].is_sharded())
        extents.insert(args.outputs[i].extent(signature.outputs[i].axis));
    return extents.size() < 2 || std::all_of(extents.begin(), extents.end(), [&](std::int64_t extent) {
             return extent % mesh_.axes[m].size == 0;
           });
  }

  double price_of(const Node& node, const OpArgs& args, const OpPlacement& signature, std::size_t m) {
    if (!pieces_match(args, signature, m)) return kImpossible;
    double conversions = 0, owed = 0;
    for (std::size_t i = 0; i < args.inputs.size(); ++i) {
      if (!allowed(signature.inputs[i], args.inputs[i], m)) return kImpossible;
      conversions += conversion_price(node.inputs[i], signature.inputs[i], m, is_overwritten(*node.op, i));
    }
    for (std::size_t i = 0; i < args.outputs.size(); ++i) {
      if (!allowed(signature.outputs[i], args.outputs[i], m)) return kImpossible;
      const auto bytes = static_cast<double>(args.outputs[i].num_bytes());
      if (signature.outputs[i].is_partial() && !node.op->defers_reduction) owed += kLatencyBytes + 2 * bytes;
      owed += kLocalShare * bytes / (signature.outputs[i].is_sharded() ? mesh_.axes[m].size : 1);
    }
    return (conversions + owed) * (conversions == 0 ? kAtRest : 1.0);
  }

  static bool is_overwritten(const OpDef& op, std::size_t input) {
    return std::any_of(op.in_place.begin(), op.in_place.end(),
                       [&](const auto& pair) { return pair.second == static_cast<int>(input); });
  }

  // The cheapest way from any version we have. What is overwritten in place must be used where it lies.
  double conversion_price(ValueId id, const AxisPlacement& to, std::size_t m, bool overwritten) {
    if (copies(id).empty()) return 0;  // an accumulator, which lies wherever its first use wants it
    double best = kImpossible;
    for (const Copy& copy : copies(id)) {
      if (copy.placement[m] == to) return 0;
      if (overwritten) continue;
      const double price = step_price(copy.placement[m], to, global_.value(id).desc, mesh_.axes[m].size);
      const bool is_moved = copy.placement[m].is_sharded() && is_persistent(global_.value(id).role);
      best = std::min(best, price * (is_moved ? kParameterMoves : 1.0));
    }
    return best;
  }

  static double step_price(const AxisPlacement& from, const AxisPlacement& to, const TensorDesc& desc,
                           int num_ranks) {
    const auto bytes = static_cast<double>(desc.num_bytes());
    const bool real = desc.dtype == DType::kF32;
    if (from.is_replicated())
      return to.is_partial() ? (real && to.reduce == ReduceOp::kSum ? kLocalShare * bytes : kImpossible)
                             : kLocalShare * bytes / num_ranks;
    if (!real) return kImpossible;  // indices are never reduced or gathered
    if (from.is_partial())
      return to.is_replicated() ? kLatencyBytes + 2 * bytes
             : to.is_sharded()  ? kLatencyBytes + bytes
                                : kImpossible;
    if (to.is_replicated()) return kLatencyBytes + bytes;
    if (to.is_sharded())
      return desc.extent(from.axis) % num_ranks == 0 ? kLatencyBytes + bytes / num_ranks : kImpossible;
    return to.reduce == ReduceOp::kSum ? kLatencyBytes + bytes * (1 + kLocalShare) : kImpossible;
  }

  Placement whole_but_batch(ValueId id) {
    Placement placement = copies(id).front().placement;
    for (AxisPlacement& axis : placement)
      if (!axis.is_sharded() || axis.axis != "batch") axis = AxisPlacement::replicated();
    return placement;
  }

  // The version of a value with the placement `to`; made, one mesh axis after the other, if it is not there.
  ValueId converted(ValueId id, const Placement& to) {
    for (const Copy& copy : copies(id))
      if (copy.placement == to) return copy.local;
    Copy copy = *std::min_element(copies(id).begin(), copies(id).end(), [&](const Copy& a, const Copy& b) {
      return path_price(id, a, to) < path_price(id, b, to);
    });
    for (std::size_t m = 0; m < to.size(); ++m) {
      if (copy.placement[m] == to[m]) continue;
      if (copy.placement[m].is_sharded() && to[m].is_partial())
        copy = step(id, copy, m, AxisPlacement::replicated());
      copy = step(id, copy, m, to[m]);
    }
    return copy.local;
  }

  double path_price(ValueId id, const Copy& copy, const Placement& to) const {
    double price = 0;
    for (std::size_t m = 0; m < to.size(); ++m)
      if (copy.placement[m] != to[m])
        price += step_price(copy.placement[m], to[m], global_.value(id).desc, mesh_.axes[m].size);
    return price;
  }

  Copy step(ValueId id, const Copy& from, std::size_t m, const AxisPlacement& to) {
    const Value& value = global_.value(id);
    Copy result{from.placement, {}};
    result.placement[m] = to;
    for (const Copy& copy : copies(id))
      if (copy.placement == result.placement) return copy;
    TAKT_ASSERT(step_price(from.placement[m], to, value.desc, mesh_.axes[m].size) < kImpossible, "'",
                value.name, "' cannot go from ", to_string(from.placement), " to ", to_string(to), " over ",
                mesh_.axes[m].name);
    Node node = conversion_node(from, to, value, m);
    node.inputs = {from.local};
    const std::vector<Value> output = {
        {.name = value.name,
         .desc = {local_dims(value.desc.dims, result.placement, mesh_), value.desc.dtype},
         .global_dims = value.desc.dims,
         .placement = result.placement}};
    result.local = local_.append_placed(std::move(node), output).front();
    copies(id).push_back(result);
    return result;
  }

  Node conversion_node(const Copy& from, const AxisPlacement& to, const Value& value, std::size_t m) const {
    const AxisPlacement& old = from.placement[m];
    Node node{.name = value.name, .mesh_axis = mesh_.axes[m].name};
    node.attrs.set("ranks", static_cast<std::int64_t>(mesh_.axes[m].size));
    if (to.is_sharded()) node.attrs.set("axis", to.axis);
    if (old.is_partial()) {
      node.attrs.set("op", std::string(name_of(old.reduce)));
      node.op = to.is_sharded() ? &reduce_scatter_op() : &all_reduce_op();
    } else if (old.is_replicated()) {
      node.op = to.is_sharded() ? &local_slice_op() : &keep_on_first_op();
    } else if (to.is_sharded()) {
      node.attrs.set("from", old.axis);
      node.op = &all_to_all_op();
    } else {
      node.attrs.set("axis", old.axis);
      node.attrs.set("extent", value.desc.extent(old.axis));
      node.op = &all_gather_op();
    }
    return node;
  }

  const Graph& global_;
  const Mesh& mesh_;
  std::span<const ShardingRule> rules_;
  PersistentPlacements& persistents_;
  std::vector<std::vector<Copy>> copies_;  // by global value
  Graph local_;
};

}  // namespace

Graph parallelize(const Graph& global, const Mesh& mesh, std::span<const ShardingRule> rules,
                  PersistentPlacements& persistents) {
  return Parallelizer(global, mesh, rules, persistents).run();
}

}  // namespace takt
