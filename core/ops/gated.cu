// gated: y = silu(g) u;  gated_grad: dg = silu'(g) u dy, du = silu(g) dy. One read an input and one write an output; see
// elementwise.cuh. The gradient reads three tensors and writes two in one pass.
#include "core/ops/activation.cuh"
#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct GatedValue {
  static constexpr int kInputs = 2, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = Silu::value(x[0]) * x[1]; }
};

struct GatedGrad {
  static constexpr int kInputs = 3, kOutputs = 2;
  __device__ void operator()(const float* x, float* y) const {
    const float g = x[0], u = x[1], dy = x[2], s = sigmoid(g);
    y[0] = s * (1.0f + g * (1.0f - s)) * u * dy;
    y[1] = g * s * dy;
  }
};

}  // namespace

DeviceKernel gated() {
  return {.prepare = prepare_elementwise<GatedValue>, .bf16 = true};
}

DeviceKernel gated_grad() {
  return {.prepare = prepare_elementwise<GatedGrad>, .bf16 = true};
}

}  // namespace takt::cuda
