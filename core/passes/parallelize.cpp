// parallelize: nodes are taken in order; every node gets the cheapest of its op's placements, one mesh axis after the
// other.
//
// The price of a placement is what it moves, in bytes of local tensors: the conversion of each input from the version
// that is nearest to all that is decided so far, and, for a partial output, the reduction that it will owe. Local work
// (slices, masks, the size of the outputs) breaks ties. Converted values are kept, so that a value is gathered or
// reduced once however many nodes want it; gathered parameters only within a layer's forward or backward.
// Layers repeat: what was decided for a node is decided for all that look alike, and so is what follows from it. Placements
// have numbers here, so that looks are lists of numbers.
#include "core/passes/parallelize.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "core/base/hash.h"
#include "core/ops/placement_rules.h"
#include "core/passes/conversion_nodes.h"
#include "core/passes/conversion_path.h"
#include "core/passes/ordered_sums.h"
#include "core/passes/placement_choice.h"

namespace takt {
namespace {

// How much dearer it is to move a parameter, or a gradient to its parameter: only where there is no other way.
constexpr double kParameterMoves = 1e6;
constexpr double kAtRest = 1 - 1e-9;  // the discount for needing no conversion: breaks exact ties only

class Parallelizer {
 public:
  Parallelizer(const Graph& global, const LookAlikes& alike, const Users& readers, const Mesh& mesh,
               const ShardingRules& rules, const PersistentTable& known)
      : global_(global),
        mesh_(mesh),
        rules_(rules),
        known_(known),
        alike_(alike),
        readers_(readers),
        versions_(global.values().size()) {
    local_.reserve(global.values().size() + global.nodes().size() / 2, 2 * global.nodes().size());
  }

  Graph run() {
    for (std::size_t i = 0; i < global_.values().size(); ++i)
      if (global_.values()[i].role != Role::kIntermediate) place_outside_value({static_cast<int>(i)});
    for (const Node& node : global_.nodes()) place_node(node);
    for (const ValueId output : global_.outputs())
      local_.mark_output(converted(output, number_of(whole_but_batch(output)), {}));
    return std::move(local_);
  }

 private:
  // A global value in the local graph; the first version is the value itself, the others are conversions of it.
  struct Version {
    int placement;  // its number
    ValueId local;
    std::optional<Tag> scope = {};  // a gathered parameter: the only nodes that may use it
    bool serves(const Tag& tag) const { return !scope || scope->is_beside(tag); }
  };
  // A choice, and what follows from it for all nodes that look alike.
  struct Recipe {
    std::vector<int> inputs, outputs;    // numbers of the placements
    std::vector<TensorDesc> descs = {};  // of the outputs, local
    Attrs attrs = {};                    // local
  };
  struct Conversion {
    double price = 0;
    std::vector<ConversionNode> nodes = {};
    std::vector<int> after = {};  // numbers of the placements
  };

  int number_of(const Placement& placement) {
    const auto found = std::find(placements_.begin(), placements_.end(), placement);
    const auto number = static_cast<int>(found - placements_.begin());
    if (found == placements_.end()) placements_.push_back(placement);
    return number;
  }
  std::vector<int> numbers_of(const std::vector<Placement>& placements) {
    std::vector<int> numbers;
    for (const Placement& placement : placements) numbers.push_back(number_of(placement));
    return numbers;
  }
  const Placement& placement_of(const Version& version) const { return placement(version.placement); }
  const Placement& placement(int number) const { return placements_[static_cast<std::size_t>(number)]; }

  std::vector<Version>& versions(ValueId id) { return versions_[static_cast<std::size_t>(id.index)]; }
  const std::vector<Version>& versions(ValueId id) const {
    return versions_[static_cast<std::size_t>(id.index)];
  }

  void place_outside_value(ValueId id) {
    const Value& value = global_.value(id);
    if (const PersistentValue* known = known_.find(value.name))
      add_outside_value(id, number_of(known->placement));
    else if (value.role != Role::kAccumulator && (value.role != Role::kDerived || !value.of.empty()))
      add_outside_value(id, by_rule(id));
  }

  int by_rule(ValueId id) {
    const auto [entry, is_new] = by_rule_.try_emplace(alike_.look_of(id));
    if (is_new) entry->second = number_of(placement_by_rule(rules_, mesh_, global_.value(id)));
    return entry->second;
  }

  void add_outside_value(ValueId id, int number) {
    Value value = global_.value(id);
    value.global_dims = value.desc.dims;
    value.placement = placement(number);
    value.desc.dims = local_dims(value.global_dims, value.placement, mesh_);
    versions(id).push_back({number, local_.add_outside(std::move(value))});
  }

  void place_node(const Node& node) {
    const Recipe& recipe = recipe_for(node);
    Node local{.op = node.op, .name = node.name, .attrs = recipe.attrs, .tag = node.tag};
    local_.set_tag(node.tag);
    local.inputs.reserve(node.inputs.size());
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (versions(node.inputs[i]).empty()) add_outside_value(node.inputs[i], recipe.inputs[i]);
      local.inputs.push_back(converted(node.inputs[i], recipe.inputs[i], node.tag));
    }
    local_.append_placed(std::move(local));
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const Value& value = global_.value(node.outputs[i]);
      const ValueId id = local_.add_output({.name = value.name,
                                            .desc = recipe.descs[i],
                                            .global_dims = value.desc.dims,
                                            .placement = placement(recipe.outputs[i])});
      versions(node.outputs[i]).push_back({recipe.outputs[i], id});
    }
  }

  // ---- What a node should look like ----

  const Recipe& recipe_for(const Node& node) {
    note_look_of(node);
    const auto [entry, is_new] = recipes_.try_emplace(look_);
    if (is_new) entry->second = recipe_of(node, decide(node));
    return entry->second;
  }

  // Writes to look_ everything that the choice depends on.
  void note_look_of(const Node& node) {
    constexpr int kNextInput = -1;
    const std::optional<ValueId> sum = summed_in(node);
    look_ = {alike_.look_of(id_of(node)), sum ? alike_.look_of(*sum) : kNextInput};
    for (const ValueId id : node.inputs) {
      look_.push_back(kNextInput);
      const Version* home = home_of(id);
      look_.push_back(home == nullptr ? kNextInput : home->placement);
      for (const Version& version : versions(id))
        if (version.serves(node.tag)) look_.push_back(version.placement);
    }
  }

  NodeId id_of(const Node& node) const { return {static_cast<int>(&node - global_.nodes().data())}; }

  // Shape attributes of a node follow its first output.
  Recipe recipe_of(const Node& node, const PlacementChoice& choice) {
    Recipe recipe{.inputs = numbers_of(choice.inputs), .outputs = numbers_of(choice.outputs)};
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const TensorDesc& desc = global_.value(node.outputs[i]).desc;
      recipe.descs.push_back({local_dims(desc.dims, choice.outputs[i], mesh_), desc.dtype});
    }
    recipe.attrs = node.attrs;
    for (auto& [name, attr] : recipe.attrs.entries())
      if (Dims* dims = std::get_if<Dims>(&attr)) *dims = local_dims(*dims, choice.outputs.front(), mesh_);
    return recipe;
  }

  PlacementChoice decide(const Node& node) const {
    const OpArgs args = global_.args_of(node);
    const std::vector<OpPlacement> offers = signatures_of(*node.op, args);
    PlacementChoice choice{std::vector<Placement>(node.inputs.size(), Placement(mesh_.axes.size())),
                           std::vector<Placement>(node.outputs.size(), Placement(mesh_.axes.size()))};
    for (std::size_t m = 0; m < mesh_.axes.size(); ++m) {
      if (mesh_.axes[m].size == 1) continue;
      std::optional<PlacementChoice> best;
      double best_price = kImpossible;
      for (const OpPlacement& offer : offers) {
        if (rules_.keep_order && !keeps_order(*node.op, args, offer, rules_, mesh_.axes[m])) continue;
        PlacementChoice candidate = choice;
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
              (versions(id).empty() ? "not placed" : to_string(placement_of(versions(id).front())[m]));
    return text;
  }

  // Mesh axes up to `last` are decided in `choice`; inputs stay as they are along the others.
  double price_of(const Node& node, const OpArgs& args, const PlacementChoice& choice,
                  std::size_t last) const {
    if (!pieces_match(args, choice, last, mesh_) || !cuts_nest(choice, last, mesh_)) return kImpossible;
    double conversions = 0, owed = 0;
    const std::optional<ValueId> sum = summed_in(node);
    for (std::size_t i = 0; i < args.inputs.size(); ++i) {
      if (!allowed(node, choice.inputs[i], args.inputs[i], last)) return kImpossible;
      conversions += input_price(node, i, choice.inputs[i], last);
    }
    for (std::size_t i = 0; i < args.outputs.size(); ++i) {
      if (!allowed(node, choice.outputs[i], args.outputs[i], last)) return kImpossible;
      const TensorDesc local{local_dims(args.outputs[i].dims, choice.outputs[i], mesh_),
                             args.outputs[i].dtype};
      const auto bytes = static_cast<double>(local.num_bytes());
      if (const int num_owed = reductions_owed(choice.outputs[i], sum); num_owed > 0)
        owed += (kLatencyBytes * num_owed + 2 * bytes) * (sum ? kParameterMoves : 1.0);
      owed += kLocalShare * bytes;
    }
    return (conversions + owed) * (conversions == 0 ? kAtRest : 1.0);
  }

  // The accumulator to which a node adds, or its output is added by all who read it.
  std::optional<ValueId> summed_in(const Node& node) const {
    if (node.op->defers_reduction) return node.inputs.front();
    std::optional<ValueId> sum;
    for (const ValueId output : node.outputs) {
      if (readers_.of(output).empty()) return std::nullopt;
      for (const NodeId reader : readers_.of(output)) {
        if (!global_.node(reader).op->defers_reduction) return std::nullopt;
        sum = global_.node(reader).inputs.front();
      }
    }
    return sum;
  }

  // Mesh axes over which a partial output must be reduced now. What is summed over micro-batches is reduced once a step,
  // unless the sum is cut along that axis because its parameter is used so.
  int reductions_owed(const Placement& output, const std::optional<ValueId>& sum) const {
    int num_owed = 0;
    for (std::size_t m = 0; m < output.size(); ++m)
      if (output[m].is_partial() &&
          (!sum || (!is_storage(rules_, mesh_.axes[m], Role::kAccumulator) && home(*sum)[m].is_sharded())))
        ++num_owed;
    return num_owed;
  }

  // Where a sum of gradients, or a derived value, belongs: where its parameter lies.
  Placement home(ValueId id) const {
    const Value& value = global_.value(id);
    return value.of.empty() ? Placement(mesh_.axes.size()) : placement_by_rule(rules_, mesh_, value);
  }

  // What is overwritten in place lies where it is stored.
  bool allowed(const Node& node, const Placement& placement, const TensorDesc& desc, std::size_t last) const {
    if (!placement[last].is_sharded() || overwrites_storage(node, last)) return true;
    const Dim dim{placement[last].axis, desc.extent(placement[last].axis)};
    return may_shard(rules_, mesh_.axes[last], dim, num_pieces(placement, last, mesh_));
  }

  bool overwrites_storage(const Node& node, std::size_t m) const {
    return std::any_of(node.op->in_place.begin(), node.op->in_place.end(), [&](const auto& pair) {
      const ValueId id = node.inputs[static_cast<std::size_t>(pair.second)];
      return is_storage(rules_, mesh_.axes[m], global_.value(id).role);
    });
  }

  // The cheapest way from any version that the node may use. What is overwritten in place is used where it lies.
  double input_price(const Node& node, std::size_t input, const Placement& wanted, std::size_t last) const {
    const ValueId id = node.inputs[input];
    double best = kImpossible;
    if (versions(id).empty()) return first_use_price(id, wanted, last);
    if (is_overwritten(*node.op, input)) {
      const Placement& own = placement_of(versions(id).front());
      return std::equal(own.begin(), own.begin() + last + 1, wanted.begin()) ? 0 : kImpossible;
    }
    for (const Version& version : versions(id)) {
      if (!version.serves(node.tag)) continue;
      const double price = way_price(id, version, until(last, wanted, version));
      best = std::min(best, price + detour_price(id, version, wanted, last));
    }
    return best;
  }

  // An accumulator or derived value lies where its first use wants it, and where its parameter is cut as that is.
  double first_use_price(ValueId id, const Placement& wanted, std::size_t last) const {
    const AxisPlacement cut = home(id)[last];
    return !cut.is_sharded() || wanted[last] == cut ? 0 : kImpossible;
  }

  // Where the update wants a gradient: where its parameter lies. Null for other values.
  const Version* home_of(ValueId id) const {
    const Value& value = global_.value(id);
    if (value.role != Role::kAccumulator || value.of.empty()) return nullptr;
    const std::optional<ValueId> parameter = global_.find_outside(value.of);
    return parameter && !versions(*parameter).empty() ? &versions(*parameter).front() : nullptr;
  }

  // A gradient that is reduced to another place than the update's (for its norm) will be reduced once more.
  double detour_price(ValueId id, const Version& version, const Placement& wanted, std::size_t last) const {
    const Version* home = home_of(id);
    if (home == nullptr || wanted[last] == placement_of(version)[last] ||
        wanted[last] == placement_of(*home)[last])
      return 0;
    return kLatencyBytes + static_cast<double>(local_.value(version.local).desc.num_bytes());
  }

  // `wanted` along the decided mesh axes, and what the version has along the others.
  Placement until(std::size_t last, const Placement& wanted, const Version& version) const {
    Placement mixed = placement_of(version);
    std::copy(wanted.begin(), wanted.begin() + last + 1, mixed.begin());
    return mixed;
  }

  double way_price(ValueId id, const Version& version, const Placement& to) const {
    const Placement from = as_used(id, placement_of(version), to);
    const double price = conversion_price(from, to, global_.value(id).desc, mesh_);
    return price * (price > 0 && moves_parameter(id, from, to) ? kParameterMoves : 1.0);
  }

  // To gather what is cut in storage only is no choice, and so has no price.
  Placement as_used(ValueId id, Placement stored, const Placement& used) const {
    for (std::size_t m = 0; m < stored.size(); ++m)
      if (stored[m].is_sharded() && used[m].is_replicated() &&
          is_storage(rules_, mesh_.axes[m], global_.value(id).role))
        stored[m] = AxisPlacement::replicated();
    return stored;
  }

  // Is a parameter gathered, in part or whole?
  bool moves_parameter(ValueId id, const Placement& from, const Placement& to) const {
    if (!is_persistent(global_.value(id).role)) return false;
    for (std::size_t m = 0; m < to.size(); ++m)
      if (from[m].is_sharded() && from[m] != to[m]) return true;
    return false;
  }

  static bool is_overwritten(const OpDef& op, std::size_t input) {
    return std::any_of(op.in_place.begin(), op.in_place.end(),
                       [&](const auto& pair) { return pair.second == static_cast<int>(input); });
  }

  Placement whole_but_batch(ValueId id) const {
    Placement whole = placement_of(versions(id).front());
    for (AxisPlacement& axis : whole)
      if (!axis.is_sharded() || axis.axis != "batch") axis = AxisPlacement::replicated();
    return whole;
  }

  // ---- Conversions ----

  // The version of a value with the placement number `to`; made, step by step, if it is not there.
  ValueId converted(ValueId id, int to, const Tag& tag) {
    for (const Version& version : versions(id))
      if (version.placement == to && version.serves(tag)) return version.local;
    std::optional<Version> best;
    double best_price = kImpossible;
    for (const Version& version : versions(id)) {
      if (!version.serves(tag)) continue;
      const double price = conversion(id, version.placement, to).price;
      if (best && price >= best_price) continue;
      best = version;
      best_price = price;
    }
    TAKT_ASSERT(best_price < kImpossible, "'", global_.value(id).name, "' cannot go from ",
                to_string(placement_of(versions(id).front())), " to ", to_string(placement(to)));
    const bool is_scoped = best->scope || moves_parameter(id, placement_of(*best), placement(to));
    const Conversion& way = conversion(id, best->placement, to);
    for (std::size_t i = 0; i < way.nodes.size(); ++i) {
      best = {way.after[i], append(way.nodes[i], id, best->local)};
      if (is_scoped) best->scope = tag;
      versions(id).push_back(*best);
    }
    return best->local;
  }

  const Conversion& conversion(ValueId id, int from, int to) {
    const auto [entry, is_new] = conversions_.try_emplace({alike_.look_of(id), from, to});
    Conversion& conversion = entry->second;
    if (!is_new) return conversion;
    const TensorDesc& desc = global_.value(id).desc;
    conversion.price = conversion_price(placement(from), placement(to), desc, mesh_);
    conversion.nodes = conversion_nodes(placement(from), placement(to), desc, mesh_);
    for (const ConversionNode& node : conversion.nodes) conversion.after.push_back(number_of(node.after));
    return conversion;
  }

  ValueId append(const ConversionNode& step, ValueId id, ValueId local) {
    const Value& value = global_.value(id);
    Node node = step.node;
    node.name = value.name;
    node.inputs = {local};
    node.tag = local_.tag();
    local_.append_placed(std::move(node));
    return local_.add_output(
        {.name = value.name, .desc = step.desc, .global_dims = value.desc.dims, .placement = step.after});
  }

  const Graph& global_;
  const Mesh& mesh_;
  const ShardingRules& rules_;
  const PersistentTable& known_;
  const LookAlikes& alike_;
  const Users& readers_;
  std::vector<Placement> placements_;           // by number
  std::vector<std::vector<Version>> versions_;  // by global value
  std::unordered_map<int, int> by_rule_;        // the placement of outside values that look alike
  std::vector<int> look_;
  std::unordered_map<std::vector<int>, Recipe, HashOfNumbers> recipes_;  // by look
  std::unordered_map<std::array<int, 3>, Conversion, HashOfNumbers>
      conversions_;  // of what looks so, from, to
  Graph local_;
};

}  // namespace

Graph parallelize(const Graph& global, const Mesh& mesh, const ShardingRules& rules,
                  const PersistentTable& known) {
  return Parallelizer(global, LookAlikes(global), Users(global), mesh, rules, known).run();
}

Graph parallelize(const GlobalProgram& global, const Mesh& mesh, const ShardingRules& rules,
                  const PersistentTable& known) {
  return Parallelizer(global.graph, global.alike, global.readers, mesh, rules, known).run();
}

}  // namespace takt
