// Sharding rules: which tensor axis is spread over which mesh axis.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/tensor.h"
#include "core/graph/graph.h"
#include "core/mesh/mesh.h"
#include "core/mesh/placement.h"
#include "core/passes/numerics.h"

namespace takt {

// What to do with an extent that the mesh axis does not divide.
enum class Uneven {
  kError,      // the model cannot be cut like that
  kPad,        // the last pieces are filled up with zeros
  kReplicate,  // every rank keeps the whole axis
};

struct ShardingRule {
  Axis axis;  // empty: storage, whichever axis the mesh axis divides, else the first, padded
  Axis mesh_axis;
  Uneven uneven = Uneven::kError;
  std::optional<Role> role = {};  // only values of this role; none: all
};
struct ShardingRules : std::vector<ShardingRule> {
  using std::vector<ShardingRule>::vector;
  // Ops are placed only so that every sum is taken in the order that it has on one rank: see keeps_order.
  bool keep_order = false;
};

// How much of the training state is cut over the `data` axis: the stages of ZeRO (Rajbhandari et al. 2020,
// arXiv:1910.02054). Each has what those before it have.
enum class Shard {
  kNone,        // every data rank has everything
  kOptimizer,   // optimizer state and master weights (ZeRO-1)
  kGradients,   // and sums of gradients, which are scattered after every micro-batch (ZeRO-2)
  kParameters,  // and the weights that the model reads, which are gathered a layer at a time (ZeRO-3)
};
std::span<const std::string_view> shard_names();  // "none", "optimizer", …
Shard find_shard(std::string_view name);          // kConfig

// What of a layout is not in the sizes of mesh axes.
struct LayoutOptions {
  Shard shard = Shard::kNone;
  // Between the products of a layer, tensor ranks share the tokens instead of each having all (sequence parallelism,
  // Korthikanti et al. 2022, arXiv:2205.05198).
  bool sequence = false;
};

// batch over replica, data and expert; expert over expert; heads, kv_heads, mlp and vocab over tensor, and seq where it
// divides; seq over context, and heads there where a node needs all tokens; of what `shard` says, storage over data. The
// model computes with whole weights, an update with whatever pieces are stored. With kInvariant nothing is padded over
// tensor, and the model keeps the order of sums; in updates all sums are exact.
ShardingRules model_rules(const LayoutOptions& options = {}, Numerics numerics = Numerics::kFast);
ShardingRules update_rules(const LayoutOptions& options = {}, Numerics numerics = Numerics::kFast);

// The extents in the graph, each axis once, that `mesh_axis` must divide.
std::vector<Dim> extents_to_divide(const Graph& graph, const ShardingRules& rules, const Axis& mesh_axis);

// May `dim` of an intermediate value be sharded over a mesh axis, which makes `num_pieces` of it together with the other
// mesh axes that cut it? False where no rule says so.
bool may_shard(const ShardingRules& rules, const MeshAxis& mesh_axis, const Dim& dim,
               std::int64_t num_pieces);

// Do rules cut values of this role along the mesh axis only where they are stored, so that nodes use them whole?
bool is_storage(const ShardingRules& rules, const MeshAxis& mesh_axis, Role role);

// Where a value from outside (an input, a parameter, optimizer state) lies. Throws kConfig naming the axis and the
// nearest mesh that works if an extent cannot be cut.
Placement placement_by_rule(const ShardingRules& rules, const Mesh& mesh, const Value& value);

// Elements a rank holds of an axis cut into `num_ranks` pieces; the last pieces may be padding.
std::int64_t local_extent(std::int64_t extent, int num_ranks);
// The dims of a value on one rank. Where several mesh axes cut one tensor axis, each cuts the pieces of those before.
Dims local_dims(const Dims& global, const Placement& placement, const Mesh& mesh);
// Can mesh axis `m` begin or cease to cut `axis` of a value placed like that? Only the innermost cut can.
bool is_innermost_cut(const Placement& placement, const Mesh& mesh, std::size_t m, const Axis& axis);

}  // namespace takt
