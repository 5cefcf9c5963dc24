// Numerics: whether the bits of a step may depend on the mesh.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace takt {

enum class Numerics {
  kFast,       // sums are taken in whatever order is cheapest: any two meshes agree to a tolerance
  kInvariant,  // every sum has one order, so that all meshes compute the same bits
};
std::span<const std::string_view> numerics_names();  // "fast", "invariant"
Numerics find_numerics(std::string_view name);       // kConfig

// With kInvariant, a sum over an axis that tensor parallelism may cut is taken in pieces, which are added up by a balanced
// binary tree: as many as the largest power of two, at most this, that divides the axis.
inline constexpr std::int64_t kMostPieces = 8;
std::int64_t pieces_of(std::int64_t extent);

}  // namespace takt
