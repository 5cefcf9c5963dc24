// conversion_path: how a value gets from one placement to another, and what that costs.
#pragma once

#include <limits>
#include <vector>

#include "core/base/tensor.h"
#include "core/mesh/mesh.h"
#include "core/mesh/placement.h"

namespace takt {

inline constexpr double kImpossible = std::numeric_limits<double>::infinity();
inline constexpr double kLatencyBytes = 4096;  // a collective's fixed price, as bytes
inline constexpr double kLocalShare = 1e-3;    // the price of touching a byte locally

// One conversion node: the placement along `mesh_axes` (numbers of mesh axes) becomes `to`. Only all-reduces go over
// several mesh axes at once.
struct ConversionStep {
  InlineVector<int, kMaxMeshAxes> mesh_axes;
  AxisPlacement from, to;
  Placement after;  // of the whole value
};

// The steps from one placement of a global tensor to another. What shrinks the local tensor comes first, what grows it
// last; several cuts of one tensor axis are peeled from the innermost. Empty if nothing is to be done.
std::vector<ConversionStep> conversion_path(const Placement& from, const Placement& to,
                                            const TensorDesc& global, const Mesh& mesh);

// Bytes that the path moves on a rank, by local sizes; kImpossible if a step cannot be taken (indices are never reduced
// or gathered, maxima have no inverse).
double conversion_price(const Placement& from, const Placement& to, const TensorDesc& global,
                        const Mesh& mesh);

}  // namespace takt
