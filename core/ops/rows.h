// Tensors as rows along their last axis: softmax, norms and losses.
#pragma once

#include <cstdint>

#include "core/graph/op.h"

namespace takt {

struct Rows {
  std::int64_t count = 0, width = 0;
};
inline Rows rows_of(const TensorDesc& x) {
  const std::int64_t width = x.dims.back().extent;
  return {x.num_elements() / width, width};
}

// Throws kConfig unless x is floating and has a last axis.
inline void require_rows(const OpArgs& args, const TensorDesc& x) {
  TAKT_REQUIRE(!x.dims.empty() && is_floating(x.dtype), "node '", args.name,
               "': x must be floating with at least one axis, got ", x);
}

// One number a row.
inline TensorDesc without_last(const TensorDesc& x) {
  return {{x.dims.begin(), x.dims.end() - 1}, x.dtype};
}

// Sum of f(c) over a row in eight interleaved chains, so that it vectorises in one fixed order.
template <class F>
float row_sum(std::int64_t width, const F& f) {
  float sums[8] = {};
  std::int64_t c = 0;
  for (; c + 8 <= width; c += 8)
    for (std::int64_t lane = 0; lane < 8; ++lane) sums[lane] += f(c + lane);
  for (; c < width; ++c) sums[c % 8] += f(c);
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

}  // namespace takt
