// Which part of each sharded axis a rank holds: the one place where ranks of the same program differ.
#pragma once

#include <span>
#include <vector>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"

namespace takt {

// The sharded axes of a node's inputs and outputs, on the rank with these mesh coordinates.
std::vector<AxisRange> axis_ranges(const Graph& graph, const Node& node, const Mesh& mesh,
                                   std::span<const int> coordinates);

// The range a rank holds of an axis that lies like that; the whole axis if it is not sharded. Cuts by several mesh
// axes nest: each is of the piece that those before it left.
AxisRange range_of(const Dim& global, const Placement& placement, const Mesh& mesh,
                   std::span<const int> coordinates);
// The same of one value's axis.
AxisRange range_of(const Value& value, std::size_t dim, const Mesh& mesh, std::span<const int> coordinates);

}  // namespace takt
