// Ranges of sharded axes, from global extents, placements and mesh coordinates.
#include "core/passes/shard_ranges.h"

#include <algorithm>

#include "core/passes/sharding_rules.h"

namespace takt {

AxisRange range_of(const Value& value, std::size_t dim, const Mesh& mesh, std::span<const int> coordinates) {
  const Dim& global = value.global_dims[dim];
  AxisRange range{global.axis, 0, global.extent, global.extent};
  for (std::size_t m = 0; m < value.placement.size(); ++m) {
    if (!value.placement[m].is_sharded() || value.placement[m].axis != global.axis) continue;
    const std::int64_t extent = local_extent(global.extent, mesh.axes[m].size);
    range.offset = extent * coordinates[m];
    range.num_valid = std::clamp<std::int64_t>(global.extent - range.offset, 0, extent);
  }
  return range;
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
