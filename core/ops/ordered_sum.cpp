// How much of a sum in pieces is on this rank.
#include "core/ops/ordered_sum.h"

#include "core/ops/shape_rules.h"

namespace takt {

PiecedSum pieced_sum(const KernelNode& node, const TensorDesc& x, const AxisNames& summed) {
  PiecedSum sum;
  const bool has_pieces = node.attrs.has("pieces") && contains(summed, node.attrs.axis("piece_axis"));
  bool after = !has_pieces;
  for (const Dim& dim : x.dims) {
    if (!contains(summed, dim.axis)) continue;
    if (has_pieces && dim.axis == node.attrs.axis("piece_axis")) {
      sum.extent = dim.extent;
      after = true;
    } else {
      (after ? sum.inner : sum.outer) *= dim.extent;
    }
  }
  if (!has_pieces) return sum;
  const std::int64_t whole = node.range(x, node.attrs.axis("piece_axis")).num_global,
                     pieces = node.attrs.integer("pieces");
  TAKT_ASSERT(pieces * sum.extent % whole == 0, "node '", node.name, "': a rank has ", sum.extent, " of ",
              whole, " elements, which are no whole number of ", pieces, " pieces");
  sum.num_pieces = pieces * sum.extent / whole;
  return sum;
}

}  // namespace takt
