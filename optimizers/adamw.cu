// adamw: m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr ( m c1 / (sqrt(v c2) + eps) + decay p ), g = factor grad
//
// Seven accesses of 4 bytes an element, one pass; see elementwise_update.cuh.
#include "optimizers/adamw.h"

#include "optimizers/elementwise_update.cuh"

namespace takt::cuda {
namespace {

struct AdamW {
  static constexpr int kStates = 2;
  float beta1, beta2, eps, decay;

  __device__ __forceinline__ float operator()(float p, float g, float* state, const float* hyper) const {
    const float m = beta1 * state[0] + (1.0f - beta1) * g, v = beta2 * state[1] + (1.0f - beta2) * g * g;
    state[0] = m;
    state[1] = v;
    return p - hyper[0] * (m * hyper[1] / (sqrtf(v * hyper[2]) + eps) + decay * p);
  }
};

Kernel prepare_adamw(const KernelNode& node) {
  const auto number = [&](const char* name) { return static_cast<float>(node.attrs.number(name)); };
  return update_kernel(node, AdamW{number("beta1"), number("beta2"), number("eps"), number("decay")});
}

}  // namespace

DeviceKernel adamw() {
  return {.prepare = prepare_adamw};
}

}  // namespace takt::cuda
