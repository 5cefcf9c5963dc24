// reduce: y[o, i] = sum_r x[o, r, i]  or  max_r x[o, r, i];    broadcast: y[o, r, i] = x[o, i]
//
// Padding of a reduced axis does not count. Sums are f32 inside a chunk of rows and double over chunks: see columns.cuh.
// Reduced axes that come last (inner = 1) have a warp or a block a chunk of a row instead, and are joined in the same way.
// Traffic   x once; broadcast: y once, x from the cache. 16 bytes an access.
// Blocks    of 256 threads. Chunks of a row are at least 4096 elements: 16 a thread, to pay for the block's tree.
#include "core/ops/columns.cuh"
#include "core/ops/cuda_kernels.h"
#include "core/ops/shape_rules.h"

namespace takt::cuda {
namespace {

Split split_reduce(const KernelNode& node) {
  return split_around(node, node.input(0).dims, node.attrs.axes("axes"));
}

// Which of a row's reduced elements exist on this rank: those whose index along the padded axis is below num_valid.
struct Existing {
  std::int64_t stride = 1, extent = 1, num_valid = 1;  // of the padded axis, in reduced elements
  __device__ __forceinline__ bool operator()(std::int64_t r) const {
    return num_valid >= extent || r / stride % extent < num_valid;
  }
};

Existing existing(const KernelNode& node) {
  Existing e;
  std::int64_t stride = 1;
  const TensorDesc& x = node.input(0);
  for (std::size_t d = x.dims.size(); d-- > 0;) {
    if (!contains(node.attrs.axes("axes"), x.dims[d].axis)) continue;
    const std::int64_t extent = x.dims[d].extent, num_valid = node.range(x, x.dims[d].axis).num_valid;
    if (num_valid < extent) e = {stride, extent, num_valid};
    stride *= extent;
  }
  return e;
}

template <class T>
struct Elements {
  static constexpr int kResults = 1;
  const T* x;
  std::int64_t rows, columns;
  Existing exist;

  __device__ __forceinline__ bool exists(std::int64_t row) const { return exist(row); }
  template <int kWidth>
  __device__ __forceinline__ void operator()(std::int64_t o, std::int64_t row, std::int64_t column,
                                             float (&values)[1][kWidth]) const {
    load(x + (o * rows + row) * columns + column, values[0]);
  }
};

// A chunk of a row: elements [chunk * width, (chunk + 1) * width) of `reduced`, as far as there are so many.
// Five blocks a multiprocessor: left alone, ptxas aims at six on sm_100 and spills.
template <int kThreads, int kWidth, class T, class Op>
__global__ void __launch_bounds__(kBlockThreads, 5)
    reduce_row_chunk(std::int64_t num_rows, int width, const T* x, float* partials, Op op, ColumnPlan plan,
                     Existing exist) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  const std::int64_t first = row % plan.num_chunks * width, rest = plan.rows - first;
  x += row / plan.num_chunks * plan.rows + first;
  float result = Op::kStart;
  over_packs<kThreads, kWidth>(rest < width ? static_cast<int>(rest) : width, [&](int c) {
    float values[kWidth];
    load(x + c, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (exist(first + c + i)) result = op(result, values[i]);
  });
  result = over_row<kThreads>(result, op);
  if (threadIdx.x == 0) partials[row] = result;
}

// Chunks of rows that are packs are packs too.
ColumnPlan plan_of(const Split& s) {
  if (s.inner > 1) return ColumnPlan::of(s.outer, s.middle, s.inner);
  ColumnPlan plan = ColumnPlan::of(s.outer, s.middle, 1, 4096);
  if (plan.num_chunks > 1) plan.set_chunks(divide_up(plan.rows_per_chunk, 8) * 8);
  return plan;
}

template <class T, class Out, class Op>
void launch_reduce(const KernelArgs& k, const ColumnPlan& plan, const Existing& exist, const Op& op) {
  constexpr int kWidth = kPackWidth<T>;
  const T* x = k.input<T>(0);
  Out* y = k.output<Out>(0);
  if (plan.columns > 1) {
    const Elements<T> elements{x, plan.rows, plan.columns, exist};
    launch_columns<kWidth>(elements, op, plan, is_aligned(x) && plan.columns % kWidth == 0, k.scratch, {y},
                           k.stream);
    return;
  }
  auto* partials = static_cast<float*>(k.scratch);
  const RowShape chunks{.num_rows = plan.outer * plan.num_chunks,
                        .width = plan.rows_per_chunk,
                        .packable = plan.rows % kWidth == 0};
  launch_rows<kWidth>(
      [](auto threads, auto width) { return reduce_row_chunk<threads.value, width.value, T, Op>; }, chunks,
      k.stream, x, partials, op, plan, exist);
  launch_join_chunks(plan, op, partials, y, k.stream);
}

std::size_t scratch_reduce(const KernelNode& node) {
  return plan_of(split_reduce(node)).scratch_bytes();
}

Kernel prepare_reduce(const KernelNode& node) {
  const ColumnPlan plan = plan_of(split_reduce(node));
  return with_floating(node.input(0).dtype, [&](auto in) {
    return with_floating(node.output(0).dtype, [&](auto out) -> Kernel {
      using T = decltype(in);
      using Out = decltype(out);
      if (node.attrs.text("op") == "max")
        return [plan, exist = existing(node)](const KernelArgs& k) {
          launch_reduce<T, Out>(k, plan, exist, Max());
        };
      return [plan, exist = existing(node)](const KernelArgs& k) {
        launch_reduce<T, Out>(k, plan, exist, Sum());
      };
    });
  });
}

// Index is 32 bits where that holds every element: 64-bit divisions would cost more than the copy.
template <int kWidth, class Index, class T>
__global__ void __launch_bounds__(kBlockThreads)
    repeat(const T* x, T* y, Index reduced, Index inner, Index num_elements) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x * kWidth;
  for (Index first = (static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
       first < num_elements; first += step) {
    Pack<T, kWidth> pack;
    if (inner == 1) {
      const T value = x[first / reduced];
#pragma unroll
      for (int i = 0; i < kWidth; ++i) pack.elements[i] = value;
    } else {
      pack = *reinterpret_cast<const Pack<T, kWidth>*>(x + first / (reduced * inner) * inner + first % inner);
    }
    *reinterpret_cast<Pack<T, kWidth>*>(y + first) = pack;
  }
}

template <class T>
void launch_broadcast(const KernelArgs& k, const Split& s) {
  constexpr int kWidth = kPackWidth<T>;
  const T* x = k.input<T>(0);
  T* y = k.output<T>(0);
  const std::int64_t num_elements = s.outer * s.middle * s.inner;
  const bool packed =
      is_aligned(y) && (s.inner == 1 ? s.middle : s.inner) % kWidth == 0 && (s.inner == 1 || is_aligned(x));
  const bool narrow = num_elements < std::int64_t{1} << 31;  // the last step of a thread may pass the end
  const auto with_index = [&](auto index) {
    using Index = decltype(index);
    launch(packed ? repeat<kWidth, Index, T> : repeat<1, Index, T>,
           dim3(strided_blocks(divide_up(num_elements, packed ? kWidth : 1))), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), x, y, s.middle, s.inner, num_elements);
  };
  narrow ? with_index(std::uint32_t{}) : with_index(std::int64_t{});
}

Kernel prepare_broadcast(const KernelNode& node) {
  const Dims& dims = node.attrs.dims("dims");
  const Split s = split_around(node, dims, axes_without(dims, node.input(0).dims));
  return with_floating(node.output(0).dtype, [&](auto type) -> Kernel {
    return [s](const KernelArgs& k) { launch_broadcast<decltype(type)>(k, s); };
  });
}

}  // namespace

DeviceKernel reduce() {
  return {.prepare = prepare_reduce, .scratch_bytes = scratch_reduce, .bf16 = true};
}

DeviceKernel broadcast() {
  return {.prepare = prepare_broadcast, .bf16 = true};
}

}  // namespace takt::cuda
