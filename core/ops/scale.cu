// scale: y = factor x. One read and one write an element; see elementwise.cuh.
#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct Scale {
  static constexpr int kInputs = 1, kOutputs = 1;
  float factor;
  __device__ void operator()(const float* x, float* y) const { y[0] = factor * x[0]; }
};

Kernel prepare_scale(const KernelNode& node) {
  return elementwise_kernel(node, Scale{static_cast<float>(node.attrs.number("factor"))});
}

}  // namespace

DeviceKernel scale() {
  return {.prepare = prepare_scale, .bf16 = true};
}

}  // namespace takt::cuda
