// Placements: how one value lies on the mesh, one entry a mesh axis.
#pragma once

#include <cstdint>
#include <string>

#include "collectives/communicator.h"
#include "core/base/axis.h"
#include "core/mesh/mesh.h"

namespace takt {

// Along one mesh axis a value is either
//   replicated  every rank has all of it,
//   sharded     every rank has an equal piece along one tensor axis (the last pieces may be padding), or
//   partial     every rank has a summand (or a candidate for the maximum) of it.
struct AxisPlacement {
  enum class Kind : std::uint8_t { kReplicated, kSharded, kPartial };
  Kind kind = Kind::kReplicated;
  Axis axis;                         // sharded: the tensor axis
  ReduceOp reduce = ReduceOp::kSum;  // partial: how the ranks' pieces make the value

  static AxisPlacement replicated() { return {}; }
  static AxisPlacement sharded(const Axis& axis) { return {Kind::kSharded, axis, ReduceOp::kSum}; }
  static AxisPlacement partial(ReduceOp reduce = ReduceOp::kSum) { return {Kind::kPartial, {}, reduce}; }

  bool is_replicated() const { return kind == Kind::kReplicated; }
  bool is_sharded() const { return kind == Kind::kSharded; }
  bool is_partial() const { return kind == Kind::kPartial; }
  bool operator==(const AxisPlacement&) const = default;
};

// One entry a mesh axis. Where several mesh axes cut the same tensor axis, Mesh::cut_order() says which cuts first.
using Placement = InlineVector<AxisPlacement, kMaxMeshAxes>;

std::string to_string(const AxisPlacement& placement);  // "R", "S(heads)", "P(sum)"
std::string to_string(const Placement& placement);      // "R,S(heads)"

}  // namespace takt
