// A block is entered at the largest tree nodes in its life, and above them. What may be in the way of another is found at
// the largest nodes in the other's life, where everything below has been entered too, and above them.
#include "core/passes/occupied.h"

#include <algorithm>
#include <bit>
#include <span>

#include "core/base/inline_vector.h"

namespace takt {

Occupied::Occupied(std::size_t num_times) : num_leaves_(std::bit_ceil(num_times)), nodes_(2 * num_leaves_) {}

// inside(node) for the largest nodes whose times are all in [first, last], above(node) for their ancestors.
template <class Inside, class Above>
void Occupied::visit(std::size_t first, std::size_t last, const Inside& inside, const Above& above) const {
  const auto descend = [&](const auto& self, std::size_t node, std::size_t begin,
                           std::size_t length) -> void {
    if (first <= begin && begin + length <= last + 1) return inside(node);
    above(node);
    const std::size_t half = length / 2;
    if (first < begin + half) self(self, 2 * node, begin, half);
    if (last >= begin + half) self(self, 2 * node + 1, begin + half, half);
  };
  descend(descend, 1, 0, num_leaves_);
}

std::size_t Occupied::lowest_free(std::size_t first, std::size_t last, std::size_t num_bytes) const {
  // What of each list lies above `offset` in part: at most two lists at each height, and two above.
  InlineVector<std::span<const Piece>, 128> in_the_way;
  const auto note = [&](const Pieces& pieces) {
    if (!pieces.empty()) in_the_way.push_back(pieces);
  };
  visit(
      first, last, [&](std::size_t node) { note(nodes_[node].sometime); },
      [&](std::size_t node) { note(nodes_[node].throughout); });
  std::size_t offset = 0;
  for (std::size_t before = 1; before != offset;) {
    before = offset;
    for (std::span<const Piece>& pieces : in_the_way)
      for (; !pieces.empty() && pieces.front().begin < offset + num_bytes; pieces = pieces.subspan(1))
        offset = std::max(offset, pieces.front().end);
  }
  return offset;
}

void Occupied::add(Pieces& pieces, Piece piece) {
  const auto first =
      std::partition_point(pieces.begin(), pieces.end(), [&](const Piece& p) { return p.end < piece.begin; });
  const auto last =
      std::partition_point(first, pieces.end(), [&](const Piece& p) { return p.begin <= piece.end; });
  if (first == last) {
    pieces.insert(first, piece);
    return;
  }
  *first = {std::min(first->begin, piece.begin), std::max(std::prev(last)->end, piece.end)};
  pieces.erase(std::next(first), last);
}

void Occupied::take(std::size_t first, std::size_t last, std::size_t offset, std::size_t num_bytes) {
  if (num_bytes == 0) return;
  const Piece piece{offset, offset + num_bytes};
  visit(
      first, last,
      [&](std::size_t node) {
        if (node < num_leaves_) add(nodes_[node].throughout, piece);
        add(nodes_[node].sometime, piece);
      },
      [&](std::size_t node) { add(nodes_[node].sometime, piece); });
}

}  // namespace takt
