// softmax: y = exp(x - m) / sum exp(x - m) over rows;  softmax_grad: dx = y (dy - sum(y dy)).
//
// Traffic   x is read twice, the second time from the cache unless a row is longer than it, and y written once. Maximum and
//           sum come from one pass: a thread that meets a new maximum scales the sum it has.
// Blocks    a warp a row up to 1024 elements, four rows a block; longer rows have 256 threads.
// Source    Milakov and Gimelshein 2018, arXiv:1805.02867.
#include "core/ops/cuda_kernels.h"
#include "core/ops/row_dot.cuh"

namespace takt::cuda {
namespace {

template <int kThreads, int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    softmax_rows(std::int64_t num_rows, int width, const T* x, T* y) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  x += row * width;
  y += row * width;
  float max = Max::kStart, sum = 0;
  over_packs<kThreads, kWidth>(width, [&](int c) {
    float values[kWidth];
    load(x + c, values);
    const float before = max;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) max = fmaxf(max, values[i]);
    sum *= expf(before - max);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += expf(values[i] - max);
  });
  const float row_max = over_row<kThreads>(max, Max());
  const float row_sum = over_row<kThreads>(sum * expf(max - row_max), Sum());
  over_packs<kThreads, kWidth>(width, [&](int c) {
    float values[kWidth];
    load(x + c, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = expf(values[i] - row_max) / row_sum;
    store(y + c, values);
  });
}

template <int kThreads, int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    softmax_grad_rows(std::int64_t num_rows, int width, const T* y, const T* dy, T* dx) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  const float sum = row_dot<kThreads, kWidth>(width, y + row * width, dy + row * width);
  over_packs<kThreads, kWidth>(width, [&](int c) {
    float values[kWidth], grads[kWidth];
    load(y + row * width + c, values);
    load(dy + row * width + c, grads);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] *= grads[i] - sum;
    store(dx + row * width + c, values);
  });
}

template <class T>
void launch_value(const KernelArgs& k, const RowShape& rows) {
  launch_rows<kPackWidth<T>>(
      [](auto threads, auto width) { return softmax_rows<threads.value, width.value, T>; }, rows, k.stream,
      k.input<T>(0), k.output<T>(0));
}

template <class T>
void launch_grad(const KernelArgs& k, const RowShape& rows) {
  launch_rows<kPackWidth<T>>(
      [](auto threads, auto width) { return softmax_grad_rows<threads.value, width.value, T>; }, rows,
      k.stream, k.input<T>(0), k.input<T>(1), k.output<T>(0));
}

Kernel prepare_value(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [rows = row_shape(node.input(0))](const KernelArgs& k) { launch_value<decltype(type)>(k, rows); };
  });
}

Kernel prepare_grad(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [rows = row_shape(node.input(0))](const KernelArgs& k) { launch_grad<decltype(type)>(k, rows); };
  });
}

}  // namespace

DeviceKernel softmax() {
  return {.prepare = prepare_value, .bf16 = true};
}

DeviceKernel softmax_grad() {
  return {.prepare = prepare_grad, .bf16 = true};
}

}  // namespace takt::cuda
