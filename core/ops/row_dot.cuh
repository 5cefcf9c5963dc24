// The inner product of two rows, by the threads of one row.
#pragma once

#include "core/device/cuda/row_group.cuh"

namespace takt::cuda {

// sum of a[c] b[c] over [0, width), in every thread of the row: see over_packs and over_row.
template <int kThreads, int kWidth, class T>
__device__ __forceinline__ float row_dot(int width, const T* a, const T* b) {
  float sum = 0;
  over_packs<kThreads, kWidth>(width, [&](int c) {
    float x[kWidth], y[kWidth];
    load(a + c, x);
    load(b + c, y);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += x[i] * y[i];
  });
  return over_row<kThreads>(sum, Sum());
}

}  // namespace takt::cuda
