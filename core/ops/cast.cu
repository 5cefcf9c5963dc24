// cast: y = x, as f32 or bf16, rounded to nearest even. One read and one write an element; see elementwise.cuh. A thread
// moves eight elements: 16 bytes of bf16, twice 16 of f32.
#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct Same {
  static constexpr int kInputs = 1, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = x[0]; }
};

Kernel prepare_cast(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto from) {
    return with_floating(node.output(0).dtype, [&](auto to) -> Kernel {
      return [num_elements = node.input(0).num_elements()](const KernelArgs& k) {
        launch_elementwise<decltype(from), decltype(to)>(Same(), k, num_elements);
      };
    });
  });
}

}  // namespace

DeviceKernel cast() {
  return {.prepare = prepare_cast, .bf16 = true};
}

}  // namespace takt::cuda
