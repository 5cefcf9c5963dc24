// Sums in pieces: how a node adds up along an axis that the mesh may cut, so that the number of ranks does not show.
//
// The axis that attribute "piece_axis" names is cut, globally, into "pieces" of one length, a power of two of them. A
// rank's pieces are added up by a balanced binary tree, and collectives add up ranks by the same tree, of which a rank's
// sum is a node (collectives/reduce.h). Without the attributes there is one piece.
#pragma once

#include <cstdint>

#include "core/graph/op.h"

namespace takt {

// The elements of a sum on this rank, numbered row-major over the summed axes, seen as [outer, extent, inner] around the
// axis that is cut.
struct PiecedSum {
  std::int64_t outer = 1, extent = 1, inner = 1;
  std::int64_t num_pieces = 1;  // of this rank

  std::int64_t num_elements() const { return outer * extent * inner; }
  // Calls body(number of the element) for the elements of one piece, in order.
  template <class Body>
  void for_each(std::int64_t piece, const Body& body) const {
    const std::int64_t length = extent / num_pieces;
    for (std::int64_t o = 0; o < outer; ++o)
      for (std::int64_t a = piece * length; a < (piece + 1) * length; ++a)
        for (std::int64_t i = 0; i < inner; ++i) body((o * extent + a) * inner + i);
  }
};
// Of a sum over some axes of `x`, one of the node's inputs.
PiecedSum pieced_sum(const KernelNode& node, const TensorDesc& x, const AxisNames& summed);

// Most levels of a tree over the pieces of a rank, each of which wants a buffer of its own while they are summed.
inline constexpr std::int64_t kMostLevels = 3;

// sum[0 .. num_elements) = the tree over `count` pieces from number `first` on; piece(p, to) writes piece p. `scratch` has
// kMostLevels x num_elements.
template <class Piece>
void tree_sum(std::int64_t first, std::int64_t count, float* sum, float* scratch, std::int64_t num_elements,
              const Piece& piece) {
  if (count == 1) return piece(first, sum);
  tree_sum(first, count / 2, sum, scratch, num_elements, piece);
  tree_sum(first + count / 2, count / 2, scratch, scratch + num_elements, num_elements, piece);
  for (std::int64_t i = 0; i < num_elements; ++i) sum[i] += scratch[i];
}

}  // namespace takt
