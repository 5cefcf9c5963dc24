// The mesh: ranks arranged along named axes, such as data=4 x tensor=2.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/axis.h"
#include "core/base/inline_vector.h"

namespace takt {

inline constexpr std::size_t kMaxMeshAxes = 6;

struct MeshAxis {
  Axis name;  // "data", "tensor"
  int size = 1;
  // Several mesh axes may cut one tensor axis, one inside the other: those with a lower number first, equal ones in
  // the mesh's order. What spreads the batch cuts last, so that a rank's share of optimizer state is a piece of the
  // parameter that the rank holds, however tensor parallelism has cut that.
  int cut = 0;
  bool operator==(const MeshAxis&) const = default;
};

// Names of mesh axes whose ranks form one group together.
using MeshAxisNames = InlineVector<Axis, kMaxMeshAxes>;

// Ranks are numbered row-major over `axes`: the last axis varies fastest, so its ranks are neighbours.
struct Mesh {
  InlineVector<MeshAxis, kMaxMeshAxes> axes;

  int num_ranks() const;
  // Do the ranks along this axis have samples of their own? Those along "data", over which parameters may be cut, along
  // "replica", which have the same pieces, and along "expert", which have different experts.
  static bool spreads_samples(const Axis& axis);
  // The number of ranks with samples of their own. `data_rank` is the number of a rank among them.
  int data_ranks() const;
  int data_rank(std::span<const int> coordinates) const;
  // The size of a mesh axis; 1 if the mesh has no such axis.
  int size_of(const Axis& axis) const;
  // Position of an axis in `axes`, or -1.
  int find(const Axis& axis) const;
  // Numbers of the axes in the order in which they cut a tensor axis, outermost first.
  std::vector<int> cut_order() const;
  // Does axis number `inner` cut inside the pieces of axis number `outer`?
  bool cuts_inside(int inner, int outer) const;
  // One coordinate an axis.
  std::vector<int> coordinates(int rank) const;
  // All ranks that differ from `rank` only along these axes, in order of rank.
  std::vector<int> group(int rank, const MeshAxisNames& along) const;
  bool operator==(const Mesh&) const = default;
};
std::string to_string(const Mesh& mesh);                // "data=4 tensor=2"
std::string to_string(const MeshAxisNames& mesh_axes);  // "data+tensor"

}  // namespace takt
