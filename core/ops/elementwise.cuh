// Elementwise kernels over f32 and bf16 tensors: elements are loaded as floats, computed on, and stored again.
//
// Traffic   every input once, every output once, 16 bytes an access where all tensors are aligned.
// Blocks    of 256 threads that stride over the grid: memory bound, and with one pack an input in flight a thread, the
//           2048 threads of a multiprocessor have 32 KiB an input under way, which hides the latency.
#pragma once

#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.cuh"
#include "core/graph/op.h"

namespace takt::cuda {

template <class In, class Out, int kInputs, int kOutputs>
struct ElementwiseTensors {
  const In* x[kInputs];
  Out* y[kOutputs];
};

// Elements [first, first + kWidth). All are read before any is written: an output may be an input's storage.
template <int kWidth, class F, class Tensors>
__device__ __forceinline__ void compute_pack(const F& f, const Tensors& t, std::int64_t first) {
  float x[F::kInputs][kWidth], y[F::kOutputs][kWidth];
#pragma unroll
  for (int i = 0; i < F::kInputs; ++i) load(t.x[i] + first, x[i]);
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    float in[F::kInputs], out[F::kOutputs];
#pragma unroll
    for (int i = 0; i < F::kInputs; ++i) in[i] = x[i][e];
    f(in, out);
#pragma unroll
    for (int o = 0; o < F::kOutputs; ++o) y[o][e] = out[o];
  }
#pragma unroll
  for (int o = 0; o < F::kOutputs; ++o) store(t.y[o] + first, y[o]);
}

// Whole packs by all threads; the one thread whose pack the end cuts off takes its elements one by one.
template <int kWidth, class F, class Tensors>
__global__ void __launch_bounds__(kBlockThreads)
    elementwise_packs(F f, Tensors tensors, std::int64_t num_elements) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  for (; first + kWidth <= num_elements; first += step) compute_pack<kWidth>(f, tensors, first);
  for (; first < num_elements; ++first) compute_pack<1>(f, tensors, first);
}

// Queues y0, y1, .. = f(x0, x1, ..). F has kInputs, kOutputs and void operator()(const float* x, float* y) const, which
// is called once an element.
template <class In, class Out, class F>
void launch_elementwise(const F& f, const KernelArgs& k, std::int64_t num_elements) {
  if (num_elements == 0) return;
  ElementwiseTensors<In, Out, F::kInputs, F::kOutputs> tensors;
  bool packed = true;
  for (std::size_t i = 0; i < F::kInputs; ++i) packed &= is_aligned(tensors.x[i] = k.input<In>(i));
  for (std::size_t o = 0; o < F::kOutputs; ++o) packed &= is_aligned(tensors.y[o] = k.output<Out>(o));
  constexpr int kWidth = kPackWidth<In, Out>;
  const auto stream = static_cast<cudaStream_t>(k.stream);
  const auto kernel =
      packed ? elementwise_packs<kWidth, F, decltype(tensors)> : elementwise_packs<1, F, decltype(tensors)>;
  launch(kernel, dim3(strided_blocks(divide_up(num_elements, packed ? kWidth : 1))), dim3(kBlockThreads), 0,
         stream, f, tensors, num_elements);
}

// The kernel of a node whose tensors all have one floating dtype.
template <class F>
Kernel elementwise_kernel(const KernelNode& node, const F& f) {
  return with_floating(node.output(0).dtype, [&](auto type) -> Kernel {
    return [f, num_elements = node.output(0).num_elements()](const KernelArgs& k) {
      launch_elementwise<decltype(type), decltype(type)>(f, k, num_elements);
    };
  });
}

// The same, of an F that knows nothing of its node.
template <class F>
Kernel prepare_elementwise(const KernelNode& node) {
  return elementwise_kernel(node, F());
}

}  // namespace takt::cuda
