// The threads that share a row: a warp, with several rows a block, or a whole block. Sums and maxima over them are a fixed
// tree, so that results do not depend on the run.
#pragma once

#include <cfloat>
#include <cstdint>
#include <type_traits>

#include "core/base/tensor.h"
#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.cuh"

namespace takt::cuda {

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
  using Wide = double;  // of long sums
  static constexpr float kStart = 0.0f;
};
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
  using Wide = float;
  static constexpr float kStart = -FLT_MAX;
};

// Over the 32 lanes of a full warp; every lane gets it. The lanes' pairs are the same from both sides, so that all lanes
// get the same bits.
template <class T, class Op>
__device__ __forceinline__ T over_warp(T x, const Op& op) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x = op(x, __shfl_xor_sync(0xFFFFFFFFu, x, distance));
  return x;
}

// Over the kThreads threads of a row, 32 or a block along x; every one of them gets it.
template <int kThreads, class T, class Op>
__device__ __forceinline__ T over_row(T x, const Op& op) {
  x = over_warp(x, op);
  if constexpr (kThreads > 32) {
    __shared__ T of_warps[kThreads / 32];
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
    __syncthreads();
    x = of_warps[0];
#pragma unroll
    for (int warp = 1; warp < kThreads / 32; ++warp) x = op(x, of_warps[warp]);
    __syncthreads();  // the next call writes again
  }
  return x;
}

// The row of the calling thread, which may be one past the last: then its whole warp has none.
__device__ __forceinline__ std::int64_t row_of_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

// Calls f(c) for the starts c of this thread's packs of a row of `width` elements, a multiple of kWidth.
template <int kThreads, int kWidth, class F>
__device__ __forceinline__ void over_packs(int width, const F& f) {
  for (int c = static_cast<int>(threadIdx.x) * kWidth; c < width; c += kThreads * kWidth) f(c);
}

// A tensor as rows along its last axis.
struct RowShape {
  std::int64_t num_rows = 0, width = 0;
  bool packable = true;  // as far as the shape goes, rows start at whole packs
};
inline RowShape row_shape(const TensorDesc& x) {
  const std::int64_t width = x.dims.back().extent;
  return {.num_rows = x.num_elements() / width, .width = width};
}

template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};

template <class T>
bool is_pack_aligned(const T& argument) {
  if constexpr (std::is_pointer_v<T>)
    return is_aligned(argument);
  else
    return true;
}

// Queues kernel_of(threads, width), two Constants, as kernel(num_rows, width, arguments..). A row has a warp up to 1024
// elements, with four rows a block, else a block of its own; its threads move packs of kWidth elements where all pointers
// are aligned and all rows whole packs, else single ones.
template <int kWidth, class KernelOf, class... Arguments>
void launch_rows(const KernelOf& kernel_of, const RowShape& rows, void* stream,
                 const Arguments&... arguments) {
  constexpr std::int64_t kLongestOfWarp = 1024;
  TAKT_ASSERT(rows.width <= 0x3FFFFFFF, "cuda: rows of ", rows.width, " elements are counted in 32 bits");
  const bool packed = rows.packable && rows.width % kWidth == 0 && (is_pack_aligned(arguments) && ...);
  const auto launch_with = [&](auto threads) {
    constexpr int kThreads = decltype(threads)::value, kRowsABlock = kThreads == 32 ? 4 : 1;
    launch(packed ? kernel_of(threads, Constant<kWidth>()) : kernel_of(threads, Constant<1>()),
           dim3(blocks_of(divide_up(rows.num_rows, kRowsABlock))), dim3(kThreads, kRowsABlock), 0,
           static_cast<cudaStream_t>(stream), rows.num_rows, rows.width, arguments...);
  };
  rows.width <= kLongestOfWarp ? launch_with(Constant<32>()) : launch_with(Constant<kBlockThreads>());
}

}  // namespace takt::cuda
