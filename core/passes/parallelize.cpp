// parallelize: nodes are taken in order; every node gets the cheapest of its op's placements, one mesh axis after the
// other.
//
// The price of a placement is what it moves, in bytes of local tensors: the conversion of each input from the version
// that is nearest to all that is decided so far, and, for a partial output, the reduction that it will owe. Local work
// (slices, masks, the size of the outputs) breaks ties. Converted values are kept, so that a value is gathered or
// reduced once however many nodes want it; gathered parameters only within a layer's forward or backward.
// Layers repeat: what was decided for a node is decided for all that look alike.
#include "core/passes/parallelize.h"

#include <algorithm>
#include <set>
#include <unordered_map>

#include "core/ops/builders.h"
#include "core/ops/placement_rules.h"
#include "core/passes/conversion_path.h"

namespace takt {
namespace {

constexpr double kParameterMoves =
    1e6;  // how much dearer moving a parameter is: only where there is no other way
constexpr double kAtRest = 1 - 1e-9;  // the discount for needing no conversion: breaks exact ties only

class Parallelizer {
 public:
  Parallelizer(const Graph& global, const Mesh& mesh, const ShardingRules& rules,
               const PersistentTable& known)
      : global_(global), mesh_(mesh), rules_(rules), known_(known), versions_(global.values().size()) {}

  Graph run() {
    for (std::size_t i = 0; i < global_.values().size(); ++i)
      if (global_.values()[i].role != Role::kIntermediate) place_outside_value({static_cast<int>(i)});
    for (const Node& node : global_.nodes()) place_node(node);
    for (const ValueId output : global_.outputs())
      local_.mark_output(converted(output, whole_but_batch(output), {}));
    return std::move(local_);
  }

 private:
  // A global value in the local graph; the first version is the value itself, the others are conversions of it.
  struct Version {
    Placement placement;
    ValueId local;
    std::optional<Tag> scope = {};  // a gathered parameter: the only nodes that may use it
    bool serves(const Tag& tag) const { return !scope || *scope == tag; }
  };
  struct Choice {
    std::vector<Placement> inputs, outputs;
  };

  std::vector<Version>& versions(ValueId id) { return versions_[static_cast<std::size_t>(id.index)]; }
  const std::vector<Version>& versions(ValueId id) const {
    return versions_[static_cast<std::size_t>(id.index)];
  }

  void place_outside_value(ValueId id) {
    const Value& value = global_.value(id);
    if (const PersistentValue* known = known_.find(value.name))
      add_outside_value(id, known->placement);
    else if (value.role != Role::kAccumulator && (value.role != Role::kDerived || !value.of.empty()))
      add_outside_value(id, placement_by_rule(rules_, mesh_, value));
  }

  void add_outside_value(ValueId id, const Placement& placement) {
    Value value = global_.value(id);
    value.global_dims = value.desc.dims;
    value.desc.dims = local_dims(value.global_dims, placement, mesh_);
    value.placement = placement;
    versions(id).push_back({placement, local_.add_outside(value)});
  }

  void place_node(const Node& node) {
    const Choice& choice = choose(node);
    Node local{.op = node.op, .name = node.name, .attrs = node.attrs, .tag = node.tag};
    local_.set_tag(node.tag);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (versions(node.inputs[i]).empty()) add_outside_value(node.inputs[i], choice.inputs[i]);
      local.inputs.push_back(converted(node.inputs[i], choice.inputs[i], node.tag));
    }
    localize(local.attrs, choice.outputs.front());
    std::vector<Value> values;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const Value& value = global_.value(node.outputs[i]);
      values.push_back({.name = value.name,
                        .desc = {local_dims(value.desc.dims, choice.outputs[i], mesh_), value.desc.dtype},
                        .global_dims = value.desc.dims,
                        .placement = choice.outputs[i]});
    }
    const std::span<const ValueId> ids = local_.append_placed(std::move(local), std::move(values));
    for (std::size_t i = 0; i < ids.size(); ++i) versions(node.outputs[i]) = {{choice.outputs[i], ids[i]}};
  }

  // Shape attributes of a node follow its first output.
  void localize(Attrs& attrs, const Placement& output) const {
    for (auto& [name, attr] : attrs.entries())
      if (Dims* dims = std::get_if<Dims>(&attr)) *dims = local_dims(*dims, output, mesh_);
  }

  // ---- What a node should look like ----

  const Choice& choose(const Node& node) {
    const auto [entry, is_new] = chosen_.try_emplace(look_of(node));
    if (is_new) entry->second = decide(node);
    return entry->second;
  }

  // Everything that the choice depends on.
  std::string look_of(const Node& node) const {
    std::string look = node.op->name + to_string(node.attrs);
    for (const ValueId id : node.inputs) {
      const Value& value = global_.value(id);
      look += "|" + to_string(value.desc) + (is_persistent(value.role) ? "!" : "");
      if (const Placement* home = home_of(id)) look += "@" + to_string(*home);
      for (const Version& version : versions(id))
        if (version.serves(node.tag)) look += ";" + to_string(version.placement);
    }
    return look;
  }

  Choice decide(const Node& node) const {
    const OpArgs args = global_.args_of(node);
    const std::vector<OpPlacement> offers = signatures_of(*node.op, args);
    Choice choice{std::vector<Placement>(node.inputs.size(), Placement(mesh_.axes.size())),
                  std::vector<Placement>(node.outputs.size(), Placement(mesh_.axes.size()))};
    for (std::size_t m = 0; m < mesh_.axes.size(); ++m) {
      if (mesh_.axes[m].size == 1) continue;
      std::optional<Choice> best;
      double best_price = kImpossible;
      for (const OpPlacement& offer : offers) {
        Choice candidate = choice;
        for (std::size_t i = 0; i < offer.inputs.size(); ++i) candidate.inputs[i][m] = offer.inputs[i];
        for (std::size_t i = 0; i < offer.outputs.size(); ++i) candidate.outputs[i][m] = offer.outputs[i];
        const double price = price_of(node, args, candidate, m);
        if (price < best_price) {
          best_price = price;
          best = std::move(candidate);
        }
      }
      TAKT_REQUIRE(best, "mesh: op ", node.op->name, " '", node.name, "' cannot be placed over ",
                   mesh_.axes[m].name, "=", mesh_.axes[m].size, describe_inputs(node, m),
                   "\n  make the axes above divisible, or choose a smaller ", mesh_.axes[m].name);
      choice = std::move(*best);
    }
    return choice;
  }

  std::string describe_inputs(const Node& node, std::size_t m) const {
    std::string text;
    for (const ValueId id : node.inputs)
      text += "\n  input '" + global_.value(id).name + "' " + to_string(global_.value(id).desc) + " is " +
              (versions(id).empty() ? "not placed" : to_string(versions(id).front().placement[m]));
    return text;
  }

  // Mesh axes up to `last` are decided in `choice`; inputs stay as they are along the others.
  double price_of(const Node& node, const OpArgs& args, const Choice& choice, std::size_t last) const {
    if (!pieces_match(args, choice, last) || !cuts_nest(choice, last)) return kImpossible;
    double conversions = 0, owed = 0;
    for (std::size_t i = 0; i < args.inputs.size(); ++i) {
      if (!allowed(choice.inputs[i], args.inputs[i], last)) return kImpossible;
      conversions += input_price(node, i, choice.inputs[i], last);
    }
    for (std::size_t i = 0; i < args.outputs.size(); ++i) {
      if (!allowed(choice.outputs[i], args.outputs[i], last)) return kImpossible;
      const TensorDesc local{local_dims(args.outputs[i].dims, choice.outputs[i], mesh_),
                             args.outputs[i].dtype};
      const auto bytes = static_cast<double>(local.num_bytes());
      const auto num_partial = std::count_if(choice.outputs[i].begin(), choice.outputs[i].end(),
                                             [](const AxisPlacement& axis) { return axis.is_partial(); });
      if (num_partial > 0 && !node.op->defers_reduction)
        owed += kLatencyBytes * static_cast<double>(num_partial) + 2 * bytes;
      owed += kLocalShare * bytes;
    }
    return (conversions + owed) * (conversions == 0 ? kAtRest : 1.0);
  }

  bool allowed(const Placement& placement, const TensorDesc& desc, std::size_t last) const {
    if (!placement[last].is_sharded()) return true;
    const Dim dim{placement[last].axis, desc.extent(placement[last].axis)};
    return may_shard(rules_, mesh_.axes[last], dim, num_pieces(placement, last));
  }

  // Into how many pieces do the mesh axes up to `last` cut the tensor axis that `last` cuts?
  std::int64_t num_pieces(const Placement& placement, std::size_t last) const {
    std::int64_t pieces = 1;
    for (std::size_t m = 0; m <= last; ++m)
      if (placement[m] == placement[last]) pieces *= mesh_.axes[m].size;
    return pieces;
  }

  // Where an axis is split or merged (reshape), the pieces before and after match only if nothing is padded.
  bool pieces_match(const OpArgs& args, const Choice& choice, std::size_t last) const {
    std::set<std::int64_t> extents;
    bool is_even = true;
    const auto look = [&](const TensorDesc& desc, const Placement& placement) {
      if (!placement[last].is_sharded()) return;
      const std::int64_t extent = desc.extent(placement[last].axis);
      extents.insert(extent);
      is_even = is_even && extent % num_pieces(placement, last) == 0;
    };
    for (std::size_t i = 0; i < args.inputs.size(); ++i) look(args.inputs[i], choice.inputs[i]);
    for (std::size_t i = 0; i < args.outputs.size(); ++i) look(args.outputs[i], choice.outputs[i]);
    return extents.size() < 2 || is_even;
  }

  // Where an op takes two tensor axes in step (query heads and the key heads they share), a mesh axis may cut one of them
  // alone only inside the pieces of those that cut both.
  bool cuts_nest(const Choice& choice, std::size_t last) const {
    const std::set<Axis> mine = axes_cut(choice, last);
    for (std::size_t m = 0; m < last; ++m) {
      const std::set<Axis> others = axes_cut(choice, m);
      const bool share =
          std::any_of(mine.begin(), mine.end(), [&](const Axis& axis) { return others.contains(axis); });
      if (!share) continue;
      const bool inside = mesh_.cuts_inside(static_cast<int>(last), static_cast<int>(m));
      const std::set<Axis>&outer = inside ? others : mine, &inner = inside ? mine : others;
      if (!std::includes(outer.begin(), outer.end(), inner.begin(), inner.end())) return false;
    }
    return true;
  }

  static std::set<Axis> axes_cut(const Choice& choice, std::size_t m) {
    std::set<Axis> axes;
    for (const std::vector<Placement>* placements : {&choice.inputs, &choice.outputs})
      for (const Placement& placement : *placements)
        if (placement[m].is_sharded()) axes.insert(placement[m].axis);
    return axes;
  }

  // The cheapest way from any version that the node may use. What is overwritten in place is used where it lies.
  double input_price(const Node& node, std::size_t input, const Placement& wanted, std::size_t last) const {
    const ValueId id = node.inputs[input];
    double best = kImpossible;
    if (versions(id).empty())
      return 0;  // an accumulator or derived value, which lies where its first use wants it
    if (is_overwritten(*node.op, input)) {
      const Placement& own = versions(id).front().placement;
      return std::equal(own.begin(), own.begin() + last + 1, wanted.begin()) ? 0 : kImpossible;
    }
    for (const Version& version : versions(id)) {
      if (!version.serves(node.tag)) continue;
      const double price = way_price(id, version, until(last, wanted, version));
      best = std::min(best, price + detour_price(id, version, wanted, last));
    }
    return best;
  }

  // Where the update wants a gradient: where its parameter lies. Null for other values.
  const Placement* home_of(ValueId id) const {
    const Value& value = global_.value(id);
    if (value.role != Role::kAccumulator || value.of.empty()) return nullptr;
    const std::optional<ValueId> parameter = global_.find_outside(value.of);
    return parameter && !versions(*parameter).empty() ? &versions(*parameter).front().placement : nullptr;
  }

  // A gradient that is reduced to another place than the update's (for its norm) will be reduced once more.
  double detour_price(ValueId id, const Version& version, const Placement& wanted, std::size_t last) const {
    const Placement* home = home_of(id);
    if (home == nullptr || wanted[last] == version.placement[last] || wanted[last] == (*home)[last]) return 0;
    return kLatencyBytes + static_cast<double>(local_.value(version.local).desc.num_bytes());
  }

  // `wanted` along the decided mesh axes, and what the version has along the others.
  static Placement until(std::size_t last, const Placement& wanted, const Version& version) {
    Placement placement = version.placement;
    std::copy(wanted.begin(), wanted.begin() + last + 1, placement.begin());
    return placement;
  }

  double way_price(ValueId id, const Version& version, const Placement& to) const {
    const double price = conversion_price(version.placement, to, global_.value(id).desc, mesh_);
    return price * (price > 0 && moves_parameter(id, version, to) ? kParameterMoves : 1.0);
  }

  // Is a parameter gathered, in part or whole?
  bool moves_parameter(ValueId id, const Version& from, const Placement& to) const {
    if (!is_persistent(global_.value(id).role)) return false;
    for (std::size_t m = 0; m < to.size(); ++m)
      if (from.placement[m].is_sharded() && from.placement[m] != to[m]) return true;
    return false;
  }

  static bool is_overwritten(const OpDef& op, std::size_t input) {
    return std::any_of(op.in_place.begin(), op.in_place.end(),
                       [&](const auto& pair) { return pair.second == static_cast<int>(input); });
  }

  Placement whole_but_batch(ValueId id) const {
    Placement placement = versions(id).front().placement;
    for (AxisPlacement& axis : placement)
      if (!axis.is_sharded() || axis.axis != "batch") axis = AxisPlacement::replicated();
    return placement;
  }

  // ---- Conversions ----

  // The version of a value with the placement `to`; made, step by step, if it is not there.
  ValueId converted(ValueId id, const Placement& to, const Tag& tag) {
    std::optional<Version> best;
    double best_price = kImpossible;
    for (const Version& version : versions(id)) {
      if (!version.serves(tag)) continue;
      const double price = conversion_price(version.placement, to, global_.value(id).desc, mesh_);
      if (best && price >= best_price) continue;
      best = version;
      best_price = price;
    }
    TAKT_ASSERT(best_price < kImpossible, "'", global_.value(id).name, "' cannot go from ",
                to_string(versions(id).front().placement), " to ", to_string(to));
    const bool is_scoped = best->scope || moves_parameter(id, *best, to);
    for (const ConversionStep& step : conversion_path(best->placement, to, global_.value(id).desc, mesh_)) {
      best = append_step(id, *best, step);
      if (is_scoped) best->scope = tag;
      versions(id).push_back(*best);
    }
    return best->local;
  }

  Version append_step(ValueId id, const Version& from, const ConversionStep& step) {
    const Value& value = global_.value(id);
    const Dims dims = local_dims(value.desc.dims, step.after, mesh_);
    Node node{.op = op_of(step), .name = value.name, .inputs = {from.local}, .tag = local_.tag()};
    std::int64_t num_ranks = 1;
    for (const int m : step.mesh_axes) {
      node.mesh_axes.push_back(mesh_.axes[static_cast<std::size_t>(m)].name);
      num_ranks *= mesh_.axes[static_cast<std::size_t>(m)].size;
    }
    node.attrs.set("ranks", num_ranks);
    if (step.from.is_partial()) node.attrs.set("op", std::string(name_of(step.from.reduce)));
    if (step.to.is_sharded()) node.attrs.set("axis", step.to.axis);
    if (step.from.is_sharded()) {
      node.attrs.set(step.to.is_sharded() ? "from" : "axis", step.from.axis);
      node.attrs.set("extent", TensorDesc{dims, value.desc.dtype}.extent(step.from.axis));
    }
    const Value output{.name = value.name,
                       .desc = {dims, value.desc.dtype},
                       .global_dims = value.desc.dims,
                       .placement = step.after};
    return {step.after, local_.append_placed(std::move(node), {output}).front()};
  }

  static const OpDef* op_of(const ConversionStep& step) {
    if (step.from.is_partial()) return step.to.is_sharded() ? &reduce_scatter_op() : &all_reduce_op();
    if (step.from.is_replicated()) return step.to.is_sharded() ? &local_slice_op() : &keep_on_first_op();
    return step.to.is_sharded() ? &all_to_all_op() : &all_gather_op();
  }

  const Graph& global_;
  const Mesh& mesh_;
  const ShardingRules& rules_;
  const PersistentTable& known_;
  std::vector<std::vector<Version>> versions_;  // by global value
  std::unordered_map<std::string, Choice> chosen_;
  Graph local_;
};

}  // namespace

Graph parallelize(const Graph& global, const Mesh& mesh, const ShardingRules& rules,
                  const PersistentTable& known) {
  return Parallelizer(global, mesh, rules, known).run();
}

}  // namespace takt
