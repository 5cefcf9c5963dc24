// norm: n = (x - mu) r,  y = n weight (+ bias),  r = 1 / sqrt(mean((x - mu)^2) + eps) over rows; mu = 0 without bias
// norm_grad: g = dy weight;  dx = r (g - mean(g) - n mean(g n)), without mean(g) in RMS norm;
//            dweight = sum over rows of dy n;  dbias = sum over rows of dy
//
// x, dy, y and dx have one type; weight and bias theirs, the gradient of which is theirs too; mu and r theirs: all f32, all
// bf16, or f32 beside bf16 rows.
// Sums      along a row f32: a thread's, then a fixed tree. The variance is of x - mu, in a pass of its own as on the CPU:
//           the difference of two means would lose it. Over rows as in columns.cuh, up to double.
// Traffic   a row comes from memory once; later passes find it in the first-level cache, which holds 64 rows of 4 KiB.
//           norm_grad reads dy and x twice, once along rows and once along columns: joining the two would need the sums of
//           all columns in shared memory, and saves a hundredth of a layer's time.
// Blocks    a warp a row up to 1024 elements, four rows a block, else 256 threads; 16 bytes an access.
#include "core/ops/columns.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

template <int kThreads, int kWidth, class T, class W, class S>
__global__ void __launch_bounds__(kBlockThreads)
    norm_rows(std::int64_t num_rows, int width, const T* x, const W* weight, const W* bias, T* y, S* means,
              S* rstds, float eps) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  x += row * width;
  y += row * width;
  float mean = 0, square = 0, values[kWidth], factors[kWidth], terms[kWidth] = {};
  if (bias != nullptr) {
    over_packs<kThreads, kWidth>(width, [&](int c) {
      load(x + c, values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) mean += values[i];
    });
    mean = over_row<kThreads>(mean, Sum()) / static_cast<float>(width);
  }
  over_packs<kThreads, kWidth>(width, [&](int c) {
    load(x + c, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) square += (values[i] - mean) * (values[i] - mean);
  });
  square = over_row<kThreads>(square, Sum()) / static_cast<float>(width);
  const float rstd = 1.0f / sqrtf(square + eps);
  over_packs<kThreads, kWidth>(width, [&](int c) {
    load(x + c, values);
    load(weight + c, factors);
    if (bias != nullptr) load(bias + c, terms);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = (values[i] - mean) * rstd * factors[i] + terms[i];
    store(y + c, values);
  });
  if (threadIdx.x != 0) return;
  means[row] = stored<S>(mean);
  rstds[row] = stored<S>(rstd);
}

template <int kThreads, int kWidth, class T, class W, class S>
__global__ void __launch_bounds__(kBlockThreads)
    norm_grad_rows(std::int64_t num_rows, int width, const T* dy, const T* x, const W* weight, const S* means,
                   const S* rstds, T* dx, bool centered) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  dy += row * width;
  x += row * width;
  const float mean = to_float(means[row]), rstd = to_float(rstds[row]);
  float sum_g = 0, sum_gn = 0, g[kWidth], n[kWidth], factors[kWidth];
  const auto load_pack = [&](int c) {
    load(dy + c, g);
    load(x + c, n);
    load(weight + c, factors);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      g[i] *= factors[i];
      n[i] = (n[i] - mean) * rstd;
    }
  };
  over_packs<kThreads, kWidth>(width, [&](int c) {
    load_pack(c);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sum_g += g[i];
      sum_gn += g[i] * n[i];
    }
  });
  const float mean_g = centered ? over_row<kThreads>(sum_g, Sum()) / static_cast<float>(width) : 0.0f;
  const float mean_gn = over_row<kThreads>(sum_gn, Sum()) / static_cast<float>(width);
  over_packs<kThreads, kWidth>(width, [&](int c) {
    load_pack(c);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) g[i] = rstd * (g[i] - mean_g - n[i] * mean_gn);
    store(dx + row * width + c, g);
  });
}

// What dweight and, with two results, dbias add up over rows.
template <class T, class S, int kNumResults>
struct WeightGrads {
  static constexpr int kResults = kNumResults;
  const T *dy, *x;
  const S *means, *rstds;
  std::int64_t width;

  __device__ __forceinline__ bool exists(std::int64_t) const { return true; }
  template <int kWidth>
  __device__ __forceinline__ void operator()(std::int64_t, std::int64_t row, std::int64_t column,
                                             float (&values)[kResults][kWidth]) const {
    const float mean = to_float(means[row]), rstd = to_float(rstds[row]);
    float grads[kWidth];
    load(dy + row * width + column, grads);
    load(x + row * width + column, values[0]);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      values[0][i] = grads[i] * ((values[0][i] - mean) * rstd);
      if constexpr (kResults == 2) values[1][i] = grads[i];
    }
  }
};

// Calls f with zeros of the types of rows, weights and statistics.
template <class F>
Kernel with_types(const TensorDesc& x, const TensorDesc& weight, const TensorDesc& rstd, const F& f) {
  TAKT_ASSERT((weight.dtype == x.dtype || weight.dtype == DType::kF32) && rstd.dtype == weight.dtype,
              "cuda: norm of ", x, " with weight ", weight, " and statistics ", rstd);
  return with_floating(x.dtype, [&](auto type) -> Kernel {
    if (weight.dtype == x.dtype) return f(type, type, type);
    return f(type, float{}, float{});
  });
}

Kernel prepare_norm(const KernelNode& node) {
  return with_types(node.input(0), node.input(1), node.output(2), [&](auto x, auto w, auto s) -> Kernel {
    using T = decltype(x);
    using W = decltype(w);
    using S = decltype(s);
    return [rows = row_shape(node.input(0)), centered = node.inputs.size() == 3,
            eps = static_cast<float>(node.attrs.number("eps"))](const KernelArgs& k) {
      launch_rows<kPackWidth<T>>(
          [](auto threads, auto width) { return norm_rows<threads.value, width.value, T, W, S>; }, rows,
          k.stream, k.input<T>(0), k.input<W>(1), centered ? k.input<W>(2) : nullptr, k.output<T>(0),
          k.output<S>(1), k.output<S>(2), eps);
    };
  });
}

ColumnPlan plan_of(const KernelNode& node) {
  const RowShape rows = row_shape(node.input(1));
  return ColumnPlan::of(1, rows.num_rows, rows.width);
}

std::size_t scratch_grad(const KernelNode& node) {
  return plan_of(node).scratch_bytes(node.attrs.flag("centered") ? 2 : 1);
}

template <class T, class W, class S, int kResults>
void launch_weight_grads(const KernelArgs& k, const ColumnPlan& plan, W* const (&results)[kResults]) {
  const WeightGrads<T, S, kResults> values{k.input<T>(0), k.input<T>(1), k.input<S>(3), k.input<S>(4),
                                           plan.columns};
  constexpr int kWidth = kPackWidth<T>;
  const bool packed = plan.columns % kWidth == 0 && is_aligned(values.dy) && is_aligned(values.x);
  launch_columns<kWidth>(values, Sum(), plan, packed, k.scratch, results, k.stream);
}

template <class T, class W, class S>
void launch_grad(const KernelArgs& k, const RowShape& rows, const ColumnPlan& plan, bool centered) {
  launch_rows<kPackWidth<T>>(
      [](auto threads, auto width) { return norm_grad_rows<threads.value, width.value, T, W, S>; }, rows,
      k.stream, k.input<T>(0), k.input<T>(1), k.input<W>(2), k.input<S>(3), k.input<S>(4), k.output<T>(0),
      centered);
  if (centered)
    launch_weight_grads<T, W, S, 2>(k, plan, {k.output<W>(1), k.output<W>(2)});
  else
    launch_weight_grads<T, W, S, 1>(k, plan, {k.output<W>(1)});
}

Kernel prepare_grad(const KernelNode& node) {
  return with_types(node.input(1), node.input(2), node.input(4), [&](auto x, auto w, auto s) -> Kernel {
    return [rows = row_shape(node.input(1)), plan = plan_of(node),
            centered = node.attrs.flag("centered")](const KernelArgs& k) {
      launch_grad<decltype(x), decltype(w), decltype(s)>(k, rows, plan, centered);
    };
  });
}

}  // namespace

DeviceKernel norm() {
  return {.prepare = prepare_norm, .bf16 = true};
}

DeviceKernel norm_grad() {
  return {.prepare = prepare_grad, .scratch_bytes = scratch_grad, .bf16 = true};
}

}  // namespace takt::cuda
