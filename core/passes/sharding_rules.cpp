// The rule table and what follows from it for shapes.
#include "core/passes/sharding_rules.h"

#include <algorithm>

#include "core/base/error.h"

namespace takt {
namespace {

bool applies(const ShardingRule& rule, const MeshAxis& mesh_axis, Role role) {
  return rule.mesh_axis == mesh_axis.name && (!rule.role || *rule.role == role);
}

// "tensor=2 | tensor=4": sizes that divide the extent, closest to what was asked for.
std::string nearest_sizes(const MeshAxis& mesh_axis, std::int64_t extent) {
  std::string text;
  int found = 0;
  for (int distance = 1; distance < mesh_axis.size + extent && found < 3; ++distance)
    for (const int size : {mesh_axis.size - distance, mesh_axis.size + distance})
      if (size >= 1 && size <= extent && extent % size == 0 && found < 3) {
        text += (found++ ? " | " : "") + mesh_axis.name.str() + "=" + std::to_string(size);
      }
  return text;
}

constexpr std::string_view kShardNames[] = {"none", "optimizer", "gradients", "parameters"};

ShardingRules rules_of_axes() {
  return {
      {"batch", "replica", Uneven::kError},
      {"batch", "data", Uneven::kError},
      {"batch", "expert", Uneven::kError},
      {"expert", "expert", Uneven::kError},
      {"heads", "tensor", Uneven::kError},
      {"kv_heads", "tensor", Uneven::kReplicate},
      {"mlp", "tensor", Uneven::kPad},
      {"vocab", "tensor", Uneven::kPad},
      {"matrix", "tensor", Uneven::kPad},
      {"seq", "context", Uneven::kError, Role::kIntermediate},
      {"heads", "context", Uneven::kReplicate, Role::kIntermediate},
      {"kv_heads", "context", Uneven::kReplicate, Role::kIntermediate},
  };
}

ShardingRules with_storage(ShardingRules rules, std::initializer_list<Role> roles) {
  for (const Role role : roles) rules.push_back({Axis(), "data", Uneven::kPad, role});
  return rules;
}

}  // namespace

std::span<const std::string_view> shard_names() {
  return kShardNames;
}

Shard find_shard(std::string_view name) {
  const auto found = std::find(std::begin(kShardNames), std::end(kShardNames), name);
  TAKT_REQUIRE(found != std::end(kShardNames), "mesh.shard: '", name,
               "' is not known; none, optimizer, gradients and parameters are");
  return static_cast<Shard>(found - std::begin(kShardNames));
}

ShardingRules model_rules(const LayoutOptions& options, Numerics numerics) {
  ShardingRules rules = rules_of_axes();
  rules.keep_order = numerics == Numerics::kInvariant;
  for (ShardingRule& rule : rules)
    if (rules.keep_order && rule.uneven == Uneven::kPad) rule.uneven = Uneven::kError;
  if (options.sequence) rules.push_back({"seq", "tensor", Uneven::kReplicate, Role::kIntermediate});
  if (options.shard >= Shard::kGradients) rules = with_storage(std::move(rules), {Role::kAccumulator});
  if (options.shard >= Shard::kParameters)
    rules = with_storage(std::move(rules), {Role::kParameter, Role::kDerived});
  return rules;
}

ShardingRules update_rules(const LayoutOptions& options, Numerics numerics) {
  ShardingRules rules = model_rules(options, numerics);
  rules.keep_order = false;
  if (options.shard != Shard::kNone)
    rules = with_storage(std::move(rules), {Role::kIntermediate, Role::kParameter, Role::kState});
  return rules;
}

std::vector<Dim> extents_to_divide(const Graph& graph, const ShardingRules& rules, const Axis& mesh_axis) {
  std::vector<Dim> extents;
  for (const Value& value : graph.values())
    for (const Dim& dim : value.desc.dims)
      for (const ShardingRule& rule : rules)
        if (rule.axis == dim.axis && rule.mesh_axis == mesh_axis && rule.uneven == Uneven::kError &&
            std::find(extents.begin(), extents.end(), dim) == extents.end())
          extents.push_back(dim);
  return extents;
}

bool may_shard(const ShardingRules& rules, const MeshAxis& mesh_axis, const Dim& dim,
               std::int64_t num_pieces) {
  return std::any_of(rules.begin(), rules.end(), [&](const ShardingRule& rule) {
    if (rule.mesh_axis != mesh_axis.name) return false;
    if (rule.axis.empty()) return rule.role == Role::kIntermediate;
    return rule.axis == dim.axis && (dim.extent % num_pieces == 0 || rule.uneven == Uneven::kPad);
  });
}

bool is_storage(const ShardingRules& rules, const MeshAxis& mesh_axis, Role role) {
  const auto stores = [&](Role stored) {
    return std::any_of(rules.begin(), rules.end(), [&](const ShardingRule& rule) {
      return rule.axis.empty() && rule.mesh_axis == mesh_axis.name && rule.role == stored;
    });
  };
  return stores(role) && !stores(Role::kIntermediate);
}

namespace {

// The axis that a rule without one cuts: the first that comes out even after what has cut it already, else the first.
// What a later mesh axis cuts is left to it: pieces are gathered from the innermost cut, and storage is gathered alone.
AxisPlacement cut_any(const Dims& local, int num_ranks, const Dims& cut_later) {
  for (const Dim& dim : local)
    if (dim.extent % num_ranks == 0 && find_axis(cut_later, dim.axis) < 0)
      return AxisPlacement::sharded(dim.axis);
  for (const Dim& dim : local)
    if (find_axis(cut_later, dim.axis) < 0) return AxisPlacement::sharded(dim.axis);
  return local.empty() ? AxisPlacement::replicated() : AxisPlacement::sharded(local.front().axis);
}

// The dims that rules cut along mesh axes after number m in the order of cuts.
Dims cut_later(const ShardingRules& rules, const Mesh& mesh, int m, const Value& value) {
  Dims dims;
  for (const Dim& dim : value.desc.dims)
    for (std::size_t later = 0; later < mesh.axes.size(); ++later)
      if (mesh.axes[later].size > 1 && mesh.cuts_inside(static_cast<int>(later), m) &&
          std::any_of(rules.begin(), rules.end(), [&](const ShardingRule& rule) {
            return rule.axis == dim.axis && applies(rule, mesh.axes[later], value.role);
          }))
        dims.push_back(dim);
  return dims;
}

AxisPlacement along(const ShardingRules& rules, const Mesh& mesh, int m, const Value& value,
                    const Dims& local) {
  const MeshAxis& mesh_axis = mesh.axes[static_cast<std::size_t>(m)];
  for (const Dim& dim : local)
    for (const ShardingRule& rule : rules) {
      if (!applies(rule, mesh_axis, value.role) || rule.axis != dim.axis) continue;
      if (dim.extent % mesh_axis.size == 0 || rule.uneven == Uneven::kPad)
        return AxisPlacement::sharded(dim.axis);
      TAKT_REQUIRE(rule.uneven == Uneven::kReplicate, "mesh: ", dim.axis, "=", dim.extent, " (of '",
                   value.name, "') cannot be split over ", mesh_axis.name, "=", mesh_axis.size,
                   "\n  nearest that fit: ", nearest_sizes(mesh_axis, dim.extent));
    }
  for (const ShardingRule& rule : rules)
    if (applies(rule, mesh_axis, value.role) && rule.axis.empty())
      return cut_any(local, mesh_axis.size, cut_later(rules, mesh, m, value));
  return AxisPlacement::replicated();
}

}  // namespace

Placement placement_by_rule(const ShardingRules& rules, const Mesh& mesh, const Value& value) {
  Placement placement(mesh.axes.size());
  for (const int m : mesh.cut_order()) {
    const MeshAxis& mesh_axis = mesh.axes[static_cast<std::size_t>(m)];
    if (mesh_axis.size == 1) continue;
    placement[static_cast<std::size_t>(m)] =
        along(rules, mesh, m, value, local_dims(value.desc.dims, placement, mesh));
  }
  return placement;
}

std::int64_t local_extent(std::int64_t extent, int num_ranks) {
  return (extent + num_ranks - 1) / num_ranks;
}

Dims local_dims(const Dims& global, const Placement& placement, const Mesh& mesh) {
  Dims dims = global;
  // The order of the cuts does not change the extents: ceil(ceil(n / a) / b) = ceil(n / (a b)).
  for (std::size_t m = 0; m < placement.size(); ++m)
    if (placement[m].is_sharded()) {
      const int i = find_axis(dims, placement[m].axis);
      TAKT_ASSERT(i >= 0, "no axis '", placement[m].axis, "' in ", to_string(global));
      std::int64_t& extent = dims[static_cast<std::size_t>(i)].extent;
      extent = local_extent(extent, mesh.axes[m].size);
    }
  return dims;
}

bool is_innermost_cut(const Placement& placement, const Mesh& mesh, std::size_t m, const Axis& axis) {
  for (std::size_t other = 0; other < placement.size(); ++other)
    if (other != m && placement[other].is_sharded() && placement[other].axis == axis &&
        mesh.cuts_inside(static_cast<int>(other), static_cast<int>(m)))
      return false;
  return true;
}

}  // namespace takt
