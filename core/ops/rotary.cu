// rotary: y[i] = x[i] c - x[i + d/2] s,  y[i + d/2] = x[i + d/2] c + x[i] s, for i < d/2, with cosine and sine of the row's
// position along "seq" from the table [seq, 2, d/2];  rotary_table: that table, in double and rounded once.
//
// Traffic   x once, y once; the table, shared by all rows of a position, from the cache. A thread has a pack of low elements
//           and the pack of their high partners, 16 bytes each where half a row is whole packs.
// Blocks    of 256 threads that stride over the grid. y may be x: a thread writes what only it has read.
#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

// x seen as [outer, seq, inner, width].
struct Layout {
  std::int64_t outer = 1, seq = 1, inner = 1, width = 1;
};

Layout layout_of(const TensorDesc& x) {
  Layout layout;
  const int seq = find_axis(x.dims, "seq");
  for (int i = 0; i + 1 < static_cast<int>(x.dims.size()); ++i)
    (i < seq    ? layout.outer
     : i == seq ? layout.seq
                : layout.inner) *= x.dims[static_cast<std::size_t>(i)].extent;
  layout.width = x.dims.back().extent;
  return layout;
}

// Index is 32 bits where that holds every element: 64-bit divisions would cost more than the copy.
template <int kWidth, class Index, class T>
__global__ void __launch_bounds__(kBlockThreads) rotate(const T* x, T* y, const float* table, float sign,
                                                        Index seq, Index inner, Index half, Index num_pairs) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x * kWidth;
  for (Index pair = (static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth; pair < num_pairs;
       pair += step) {
    const Index row = pair / half, i = pair - row * half;
    const Index at = row * half * 2 + i, turn = row / inner % seq * half * 2 + i;
    float low[kWidth], high[kWidth], cosines[kWidth], sines[kWidth];
    load(x + at, low);
    load(x + at + half, high);
    load(table + turn, cosines);
    load(table + turn + half, sines);
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      const float l = low[e], h = high[e], sine = sign * sines[e];
      low[e] = l * cosines[e] - h * sine;
      high[e] = h * cosines[e] + l * sine;
    }
    store(y + at, low);
    store(y + at + half, high);
  }
}

template <class T>
void launch_rotary(const KernelArgs& k, const Layout& l, float sign) {
  constexpr int kWidth = kPackWidth<T>;
  const T* x = k.input<T>(0);
  const auto* table = k.input<float>(1);
  T* y = k.output<T>(0);
  const std::int64_t half = l.width / 2, num_pairs = l.outer * l.seq * l.inner * half;
  const bool packed = half % kWidth == 0 && is_aligned(x) && is_aligned(y) && is_aligned(table);
  const auto with_index = [&](auto index) {
    using Index = decltype(index);
    launch(packed ? rotate<kWidth, Index, T> : rotate<1, Index, T>,
           dim3(strided_blocks(divide_up(num_pairs, packed ? kWidth : 1))), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), x, y, table, sign, l.seq, l.inner, half, num_pairs);
  };
  num_pairs < std::int64_t{1} << 30 ? with_index(std::uint32_t{}) : with_index(std::int64_t{});
}

Kernel prepare_rotary(const KernelNode& node) {
  const float sign = node.attrs.flag("inverse") ? -1.0f : 1.0f;
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [l = layout_of(node.input(0)), sign](const KernelArgs& k) {
      launch_rotary<decltype(type)>(k, l, sign);
    };
  });
}

// One thread an angle.
__global__ void __launch_bounds__(kBlockThreads)
    fill_table(float* table, std::int64_t first_position, std::int64_t seq, std::int64_t half, double theta) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (at >= seq * half) return;
  const std::int64_t position = at / half, pair = at % half;
  const double angle = static_cast<double>(first_position + position) *
                       pow(theta, -static_cast<double>(pair) / static_cast<double>(half));
  table[position * 2 * half + pair] = static_cast<float>(cos(angle));
  table[position * 2 * half + half + pair] = static_cast<float>(sin(angle));
}

Kernel prepare_table(const KernelNode& node) {
  const TensorDesc& table = node.output(0);
  return [seq = table.dims[0].extent, half = table.dims[2].extent, offset = node.range(table, "seq").offset,
          theta = node.attrs.number("theta")](const KernelArgs& k) {
    launch(fill_table, dim3(blocks_of(divide_up(seq * half, kBlockThreads))), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), k.output<float>(0), offset, seq, half, theta);
  };
}

}  // namespace

DeviceKernel rotary() {
  return {.prepare = prepare_rotary, .bf16 = true};
}

DeviceKernel rotary_table() {
  return {.prepare = prepare_table};
}

}  // namespace takt::cuda
