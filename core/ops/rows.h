// Tensors as rows along their last axis: softmax, norms and losses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

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

// f(0) op f(1) op .. over [0, num_items) in eight interleaved chains, so that it vectorises in one fixed order.
template <class T, class Op, class F>
T fold(std::int64_t num_items, T start, const Op& op, const F& f) {
  T lanes[8];
  std::fill_n(lanes, 8, start);
  std::int64_t i = 0;
  for (; i + 8 <= num_items; i += 8)
    for (std::int64_t lane = 0; lane < 8; ++lane) lanes[lane] = op(lanes[lane], f(i + lane));
  for (; i < num_items; ++i) lanes[i % 8] = op(lanes[i % 8], f(i));
  for (std::int64_t half = 4; half > 0; half /= 2)
    for (std::int64_t lane = 0; lane < half; ++lane) lanes[lane] = op(lanes[lane], lanes[lane + half]);
  return lanes[0];
}
template <class F>
float row_sum(std::int64_t width, const F& f) {
  return fold(width, 0.0f, std::plus(), f);
}

}  // namespace takt
