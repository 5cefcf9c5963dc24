// Occupied: which bytes of an arena are taken, and when. Built for finding the lowest place that is free for a while.
#pragma once

#include <cstddef>
#include <vector>

namespace takt {

// A segment tree over time, which keeps what is taken as joined pieces of memory: taking a block and looking for a place
// for one visit about 2 log2(num_times) short lists, however many blocks there are.
class Occupied {
 public:
  explicit Occupied(std::size_t num_times);

  // The lowest offset from which `num_bytes` are free at all times from `first` to `last`, inclusive.
  std::size_t lowest_free(std::size_t first, std::size_t last, std::size_t num_bytes) const;
  void take(std::size_t first, std::size_t last, std::size_t offset, std::size_t num_bytes);

 private:
  struct Piece {
    std::size_t begin, end;
  };
  using Pieces = std::vector<Piece>;  // sorted; they do not touch
  struct Node {
    Pieces throughout;  // taken by blocks that live all the node's time, but not all its parent's
    Pieces sometime;    // taken at some of the node's time, but not all of its parent's
  };

  template <class Inside, class Above>
  void visit(std::size_t first, std::size_t last, const Inside& inside, const Above& above) const;
  static void add(Pieces& pieces, Piece piece);

  std::size_t num_leaves_;   // a power of two
  std::vector<Node> nodes_;  // the root is 1, the children of i are 2i and 2i + 1, leaves come last
};

}  // namespace takt
