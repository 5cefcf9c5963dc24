// Ranges of sharded axes, from global extents, placements and mesh coordinates.
#include "core/passes/shard_ranges.h"

#include <algorithm>

#include "core/passes/sharding_rules.h"

namespace takt {

AxisRange range_of(const Dim& global, const Placement& placement, const Mesh& mesh,
                   std::span<const int> coordinates) {
  AxisRange range{global.axis, 0, global.extent, global.extent};
  std::int64_t piece = global.extent;  // what is cut next; its last elements may be padding
  for (const int axis : mesh.cut_order()) {
    const auto m = static_cast<std::size_t>(axis);
    if (m >= placement.size() || !placement[m].is_sharded() || placement[m].axis != global.axis) continue;
    piece = local_extent(piece, mesh.axes[m].size);
    const std::int64_t from = piece * coordinates[m];
    range.offset += from;
    range.num_valid = std::clamp<std::int64_t>(range.num_valid - from, 0, piece);
  }
  return range;
}

AxisRange range_of(const Value& value, std::size_t dim, const Mesh& mesh, std::span<const int> coordinates) {
  return range_of(value.global_dims[dim], value.placement, mesh, coordinates);
}

std::vector<AxisRange> axis_ranges(const Graph& graph, const Node& node, const Mesh& mesh,
                                   std::span<const int> coordinates) {
  std::vector<AxisRange> ranges;
  const auto collect = [&](ValueId id) {
    const Value& value = graph.value(id);
    for (const AxisPlacement& placement : value.placement) {
      if (!placement.is_sharded()) continue;
      const bool known = std::any_of(ranges.begin(), ranges.end(),
                                     [&](const AxisRange& r) { return r.axis == placement.axis; });
      const int dim = find_axis(value.global_dims, placement.axis);
      if (!known && dim >= 0)
        ranges.push_back(range_of(value, static_cast<std::size_t>(dim), mesh, coordinates));
    }
  };
  for (const ValueId id : node.inputs) collect(id);
  for (const ValueId id : node.outputs) collect(id);
  return ranges;
}

}  // namespace takt
