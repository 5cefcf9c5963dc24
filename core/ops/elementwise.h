// Elementwise kernels over f32 and bf16 tensors: an element is loaded as a float, computed on, and stored again.
#pragma once

#include <array>
#include <cstddef>
#include <utility>

#include "core/base/bf16.h"
#include "core/graph/op.h"
#include "core/ops/parallel_for.h"

namespace takt {

// Calls f with a zero of the type that stores `dtype`, f32 or bf16, and returns what it returns.
template <class F>
auto with_floating(DType dtype, const F& f) {
  return dtype == DType::kBF16 ? f(BF16{}) : f(float{});
}
// The same with two types.
template <class F>
auto with_floating(DType first, DType second, const F& f) {
  return with_floating(first, [&](auto a) { return with_floating(second, [&](auto b) { return f(a, b); }); });
}

// y[i] = x[i] in the other type.
template <class In, class Out>
void convert(const In* x, Out* y, std::int64_t num_elements, int num_threads = 1) {
  parallel_blocks(num_threads, num_elements, [=](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) y[i] = stored<Out>(to_float(x[i]));
  });
}

// One block of (y0, y1, ..)[i] = f(x0[i], x1[i], ..). An output may be an input's storage: element i is read first.
template <class In, class Out, class F, std::size_t... in, std::size_t... out>
void elementwise_block(const KernelArgs& k, std::int64_t first, std::int64_t last, const F& f,
                       std::index_sequence<in...>, std::index_sequence<out...>) {
  const std::array<const In*, sizeof...(in)> x = {k.input<In>(in)...};
  const std::array<Out*, sizeof...(out)> y = {k.output<Out>(out)...};
#pragma GCC ivdep
  for (std::int64_t i = first; i < last; ++i) {
    const auto values = f(to_float(x[in][i])...);
    if constexpr (sizeof...(out) == 1)
      y[0][i] = stored<Out>(values);
    else
      ((y[out][i] = stored<Out>(values[out])), ...);
  }
}

// The kernel of y[i] = f(x0[i], x1[i], ..): all inputs have the dtype of the first, all outputs that of the first
// output. With several outputs f returns an array, one number an output.
template <std::size_t kInputs, std::size_t kOutputs = 1, class F>
Kernel elementwise_kernel(const KernelNode& node, const F& f) {
  return with_floating(node.input(0).dtype, node.output(0).dtype, [&](auto in, auto out) -> Kernel {
    return [f, n = node.output(0).num_elements(), threads = node.num_threads](const KernelArgs& k) {
      parallel_blocks(threads, n, [&](std::int64_t first, std::int64_t last) {
        elementwise_block<decltype(in), decltype(out)>(k, first, last, f, std::make_index_sequence<kInputs>(),
                                                       std::make_index_sequence<kOutputs>());
      });
    };
  });
}

// For a record: the kernel of a function that knows nothing of its node.
template <std::size_t kInputs, auto kFunction, std::size_t kOutputs = 1>
Kernel elementwise_cpu(const KernelNode& node) {
  return elementwise_kernel<kInputs, kOutputs>(node, kFunction);
}

}  // namespace takt
