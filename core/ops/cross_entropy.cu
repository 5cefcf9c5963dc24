// cross_entropy over a vocabulary that may be sharded: loss[t] = m[t] + log s[t] - z[t], where
//   s[t] = sum_v exp(x[t, v] - m[t])  (sum_exp),  z[t] = x[t, target[t]]  (pick),
//   dx[t, v] = dy[t] (exp(x[t, v] - m[t]) / s[t] - [v = target[t]])  (cross_entropy_grad)
//
// A rank has the logits [offset, offset + num_valid) of its range; its padding takes no part and gets a zero gradient, a
// target that lies elsewhere gives 0. The logits are never gathered.
// Sums      f32: a thread's, then a fixed tree over the row's threads.
// Traffic   the logits once in sum_exp; once read and once written in the gradient, which may overwrite them.
// Blocks    a warp a row up to 1024 logits, else 256 threads, 16 bytes an access; one thread a token in pick and loss.
#include "core/device/cuda/row_group.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

// The part of the vocabulary that this rank has.
struct Vocab {
  std::int64_t offset;
  int num_valid;

  // The local index of a target, or -1.
  __device__ __forceinline__ int find(std::int32_t target) const {
    const std::int64_t v = target - offset;
    return v >= 0 && v < num_valid ? static_cast<int>(v) : -1;
  }
};

Vocab vocab_of(const KernelNode& node) {
  const AxisRange range = node.range(node.input(0), node.input(0).dims.back().axis);
  return {range.offset, static_cast<int>(range.num_valid)};
}

template <int kThreads, int kWidth, class T, class S>
__global__ void __launch_bounds__(kBlockThreads)
    sum_exp_rows(std::int64_t num_rows, int width, const T* x, const S* m, S* sums, Vocab vocab) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  const float max = to_float(m[row]);
  float sum = 0;
  over_packs<kThreads, kWidth>(vocab.num_valid, [&](int v) {
    float values[kWidth];
    load(x + row * width + v, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      if (v + i < vocab.num_valid) sum += expf(values[i] - max);
  });
  sum = over_row<kThreads>(sum, Sum());
  if (threadIdx.x == 0) sums[row] = stored<S>(sum);
}

template <int kThreads, int kWidth, class T, class S>
__global__ void __launch_bounds__(kBlockThreads)
    grad_rows(std::int64_t num_rows, int width, const T* x, const std::int32_t* targets, const S* m,
              const S* s, const S* dy, T* dx, Vocab vocab) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  const float max = to_float(m[row]), grad = to_float(dy[row]), factor = grad / to_float(s[row]);
  const int target = vocab.find(targets[row]);
  over_packs<kThreads, kWidth>(width, [&](int v) {
    float values[kWidth];
    load(x + row * width + v, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float share = v + i < vocab.num_valid ? factor * expf(values[i] - max) : 0.0f;
      values[i] = v + i == target ? share - grad : share;
    }
    store(dx + row * width + v, values);  // dx may be x: these elements have been read
  });
}

template <class T, class S>
__global__ void __launch_bounds__(kBlockThreads)
    pick_targets(std::int64_t num_rows, int width, const T* x, const std::int32_t* targets, S* z,
                 Vocab vocab) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= num_rows) return;
  const int target = vocab.find(targets[row]);
  z[row] = stored<S>(target >= 0 ? to_float(x[row * width + target]) : 0.0f);
}

template <class S>
__global__ void __launch_bounds__(kBlockThreads)
    losses(std::int64_t num_rows, const S* m, const S* s, const S* z, S* loss) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= num_rows) return;
  loss[row] = stored<S>(to_float(m[row]) + logf(to_float(s[row])) - to_float(z[row]));
}

// Calls f with zeros of the types of the logits and of what there is one of a token. Both are f32 or both are bf16, or
// only the logits are bf16.
template <class F>
Kernel with_types(const TensorDesc& logits, const TensorDesc& per_token, const F& f) {
  return with_floating(per_token.dtype, [&](auto s) -> Kernel {
    if constexpr (sizeof(s) == sizeof(float)) {
      return with_floating(logits.dtype, [&](auto x) -> Kernel { return f(x, s); });
    } else {
      TAKT_ASSERT(logits.dtype == per_token.dtype, "cuda: logits ", logits, " with ", per_token);
      return f(s, s);
    }
  });
}

Kernel prepare_sum_exp(const KernelNode& node) {
  return with_types(node.input(0), node.output(0), [&](auto x, auto s) -> Kernel {
    using T = decltype(x);
    using S = decltype(s);
    return [rows = row_shape(node.input(0)), vocab = vocab_of(node)](const KernelArgs& k) {
      launch_rows<kPackWidth<T>>(
          [](auto threads, auto width) { return sum_exp_rows<threads.value, width.value, T, S>; }, rows,
          k.stream, k.input<T>(0), k.input<S>(1), k.output<S>(0), vocab);
    };
  });
}

Kernel prepare_pick(const KernelNode& node) {
  return with_types(node.input(0), node.output(0), [&](auto x, auto s) -> Kernel {
    using T = decltype(x);
    using S = decltype(s);
    return [rows = row_shape(node.input(0)), vocab = vocab_of(node)](const KernelArgs& k) {
      launch(pick_targets<T, S>, dim3(blocks_of(divide_up(rows.num_rows, kBlockThreads))),
             dim3(kBlockThreads), 0, static_cast<cudaStream_t>(k.stream), rows.num_rows, rows.width,
             k.input<T>(0), k.input<std::int32_t>(1), k.output<S>(0), vocab);
    };
  });
}

Kernel prepare_loss(const KernelNode& node) {
  return with_floating(node.output(0).dtype, [&](auto s) -> Kernel {
    using S = decltype(s);
    return [num_rows = node.output(0).num_elements()](const KernelArgs& k) {
      launch(losses<S>, dim3(blocks_of(divide_up(num_rows, kBlockThreads))), dim3(kBlockThreads), 0,
             static_cast<cudaStream_t>(k.stream), num_rows, k.input<S>(2), k.input<S>(3), k.input<S>(4),
             k.output<S>(0));
    };
  });
}

Kernel prepare_grad(const KernelNode& node) {
  return with_types(node.input(0), node.input(4), [&](auto x, auto s) -> Kernel {
    using T = decltype(x);
    using S = decltype(s);
    return [rows = row_shape(node.input(0)), vocab = vocab_of(node)](const KernelArgs& k) {
      launch_rows<kPackWidth<T>>(
          [](auto threads, auto width) { return grad_rows<threads.value, width.value, T, S>; }, rows,
          k.stream, k.input<T>(0), k.input<std::int32_t>(1), k.input<S>(2), k.input<S>(3), k.input<S>(4),
          k.output<T>(0), vocab);
    };
  });
}

}  // namespace

DeviceKernel sum_exp() {
  return {.prepare = prepare_sum_exp, .bf16 = true};
}

DeviceKernel pick() {
  return {.prepare = prepare_pick, .bf16 = true};
}

DeviceKernel cross_entropy() {
  return {.prepare = prepare_loss, .bf16 = true};
}

DeviceKernel cross_entropy_grad() {
  return {.prepare = prepare_grad, .bf16 = true};
}

}  // namespace takt::cuda
