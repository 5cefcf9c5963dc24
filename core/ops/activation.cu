// activation: y = act(x);  activation_grad: dx = act'(x) dy. One read an input and one write an element; see
// elementwise.cuh.
#include "core/ops/activation.cuh"

#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

template <class Act>
struct Value {
  static constexpr int kInputs = 1, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = Act::value(x[0]); }
};

template <class Act>
struct Slope {
  static constexpr int kInputs = 2, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = Act::slope(x[0]) * x[1]; }
};

// F<Act> of the activation that attribute "kind" names.
template <template <class> class F>
Kernel prepare_of_kind(const KernelNode& node) {
  return node.attrs.text("kind") == "silu" ? elementwise_kernel(node, F<Silu>())
                                           : elementwise_kernel(node, F<Gelu>());
}

}  // namespace

DeviceKernel activation() {
  return {.prepare = prepare_of_kind<Value>, .bf16 = true};
}

DeviceKernel activation_grad() {
  return {.prepare = prepare_of_kind<Slope>, .bf16 = true};
}

}  // namespace takt::cuda
