// The rule table and what follows from it for shapes.
#include "core/passes/sharding_rules.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"

namespace takt {
namespace {

const ShardingRule* find_rule(std::span<const ShardingRule> rules, const std::string& mesh_axis,
                              const std::string& axis) {
  for (const ShardingRule& rule : rules)
    if (rule.mesh_axis == mesh_axis && rule.axis == axis) return &rule;
  return nullptr;
}

// "tensor=2 | tensor=4": sizes that divide the extent, closest to what was asked for.
std::string nearest_sizes(const MeshAxis& mesh_axis, std::int64_t extent) {
  std::string text;
  int found = 0;
  for (int distance = 1; distance < mesh_axis.size + extent && found < 3; ++distance)
    for (const int size : {mesh_axis.size - distance, mesh_axis.size + distance})
      if (size >= 1 && size <= extent && extent % size == 0 && found < 3) {
        text += (found++ ? " | " : "") + mesh_axis.name + "=" + std::to_string(size);
      }
  return text;
}

}  // namespace

std::span<const ShardingRule> default_sharding_rules() {
  static const std::array<ShardingRule, 5> rules = {{
      {"batch", "data", Uneven::kError},
      {"heads", "tensor", Uneven::kError},
      {"kv_heads", "tensor", Uneven::kReplicate},
      {"mlp", "tensor", Uneven::kPad},
      {"vocab", "tensor", Uneven::kPad},
  }};
  return rules;
}

bool may_shard(std::span<const ShardingRule> rules, const MeshAxis& mesh_axis, const Dim& dim) {
  const ShardingRule* rule = find_rule(rules, mesh_axis.name, dim.axis);
  return rule != nullptr && (dim.extent % mesh_axis.size == 0 || rule->uneven == Uneven::kPad);
}

Placement placement_by_rule(std::span<const ShardingRule> rules, const Mesh& mesh, const TensorDesc& desc,
                            std::string_view value) {
  Placement placement(mesh.axes.size());
  for (std::size_t m = 0; m < mesh.axes.size(); ++m) {
    const MeshAxis& mesh_axis = mesh.axes[m];
    if (mesh_axis.size == 1) continue;
    for (const Dim& dim : desc.dims) {
      const ShardingRule* rule = find_rule(rules, mesh_axis.name, dim.axis);
      if (rule == nullptr) continue;
      if (may_shard(rules, mesh_axis, dim)) {
        placement[m] = AxisPlacement::sharded(dim.axis);
        break;
      }
      TAKT_REQUIRE(rule->uneven == Uneven::kReplicate, "mesh: ", dim.axis, "=", dim.extent, " (of '", value,
                   "') cannot be split over ", mesh_axis.name, "=", mesh_axis.size,
                   "\n  nearest that fit: ", nearest_sizes(mesh_axis, dim.extent));
    }
  }
  return placement;
}

std::int64_t local_extent(std::int64_t extent, int num_ranks) {
  return (extent + num_ranks - 1) / num_ranks;
}

Dims local_dims(const Dims& global, const Placement& placement, const Mesh& mesh) {
  Dims dims = global;
  for (std::size_t m = 0; m < placement.size(); ++m)
    if (placement[m].is_sharded()) {
      const int i = find_axis(dims, placement[m].axis);
      TAKT_ASSERT(i >= 0, "no axis '", placement[m].axis, "' in ", to_string(global));
      std::int64_t& extent = dims[static_cast<std::size_t>(i)].extent;
      extent = local_extent(extent, mesh.axes[m].size);
    }
  return dims;
}

}  // namespace takt
