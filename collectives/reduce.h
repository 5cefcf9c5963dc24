// Elementwise reductions on the CPU, in rank order.
#pragma once

#include <cstddef>
#include <span>

#include "collectives/communicator.h"
#include "core/base/tensor.h"

namespace takt {

// Throws kConfig, naming the type, if elements of `dtype` cannot be reduced on the CPU.
void require_reducible(DType dtype);

// out[i] = op(...op(op(terms[0][i], terms[1][i]), terms[2][i])...): rank order, so the same bits every time.
// Sums of i32 wrap around; a NaN wins a max. `out` may be one of the terms, but must not overlap one
// otherwise.
void reduce_in_rank_order(void* out, std::span<const void* const> terms, std::size_t num_elements,
                          DType dtype, ReduceOp op);

// Rank `rank`'s share when `num_elements` are divided among `num_ranks`: [begin, end). Shares differ by at
// most one.
struct Slice {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t num_elements() const { return end - begin; }
};
Slice slice_of(std::size_t num_elements, int rank, int num_ranks);

}  // namespace takt
