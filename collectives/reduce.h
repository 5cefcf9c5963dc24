// Elementwise reductions on the CPU, in the canonical order.
//
// The reduction over n ranks is a balanced binary tree over them in rank order: its left half is the tree
// over the first m ranks, m the largest power of two below n, and its right half the tree over the others.
//
//   n = 2: 0+1     n = 3: (0+1)+2     n = 4: (0+1)+(2+3)     n = 6: ((0+1)+(2+3))+(4+5)
//
// So the tree over n ranks is a tree over consecutive blocks of 2^k ranks of trees inside the blocks (the
// last block may be shorter), whatever n is. Ranks can be added up host by host or group by group without
// changing a bit. The rounding error grows with log n instead of n.
#pragma once

#include <cstddef>
#include <span>

#include "collectives/communicator.h"
#include "core/base/tensor.h"

namespace takt {

// Throws kConfig, naming the type, if elements of `dtype` cannot be reduced on the CPU.
void require_reducible(DType dtype);

// How many of `num_ranks` consecutive ranks are in the left half of their tree. num_ranks: 2 or more.
std::size_t ranks_on_the_left(std::size_t num_ranks);

// The reduction of consecutive ranks, which is a node of the tree; the data of one rank is a leaf.
struct ReduceTerm {
  const void* data = nullptr;
  std::size_t num_ranks = 1;
};

// out[i] = the tree over the ranks that `terms` cover, in rank order: the same bits every time, and however
// the tree is cut into terms. Sums of i32 wrap around; a NaN wins a max. `out` may be the data of one of the
// terms, but must not overlap one otherwise.
void reduce_in_tree_order(void* out, std::span<const ReduceTerm> terms, std::size_t num_elements, DType dtype,
                          ReduceOp op);

// Rank `rank`'s share when `num_elements` are divided among `num_ranks`: [begin, end). Shares differ by at most one.
struct Slice {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t num_elements() const { return end - begin; }
};
Slice slice_of(std::size_t num_elements, int rank, int num_ranks);

}  // namespace takt
