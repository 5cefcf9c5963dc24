// Sharding rules: which tensor axis is spread over which mesh axis.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/base/tensor.h"
#include "core/mesh/mesh.h"
#include "core/mesh/placement.h"

namespace takt {

// What to do with an extent that the mesh axis does not divide.
enum class Uneven {
  kError,      // the model cannot be cut like that
  kPad,        // the last pieces are filled up with zeros
  kReplicate,  // every rank keeps the whole axis
};

struct ShardingRule {
  std::string axis;
  std::string mesh_axis;
  Uneven uneven = Uneven::kError;
};

// batch over data; heads, kv_heads, mlp and vocab over tensor.
std::span<const ShardingRule> default_sharding_rules();

// May `axis` with `extent` elements be sharded over a mesh axis? False where no rule says so.
bool may_shard(std::span<const ShardingRule> rules, const MeshAxis& mesh_axis, const Dim& dim);

// Where a value from outside (an input, a parameter, optimizer state) lies. Throws kConfig naming the axis
// and the nearest mesh that works if an extent cannot be cut.
Placement placement_by_rule(std::span<const ShardingRule> rules, const Mesh& mesh, const TensorDesc& desc,
                            std::string_view value);

// Elements a rank holds of an axis cut into `num_ranks` pieces; the last pieces may be padding.
std::int64_t local_extent(std::int64_t extent, int num_ranks);
// The dims of a value on one rank.
Dims local_dims(const Dims& global, const Placement& placement, const Mesh& mesh);

}  // namespace takt
