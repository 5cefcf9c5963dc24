// lion: p = p - lr ( sign(b1 m + (1 - b1) g) + decay p );  m = b2 m + (1 - b2) g, g = factor grad
//
// Five accesses of 4 bytes an element, one pass; see elementwise_update.cuh.
#include "optimizers/lion.h"

#include "optimizers/elementwise_update.cuh"

namespace takt::cuda {
namespace {

struct Lion {
  static constexpr int kStates = 1;
  float beta1, beta2, decay;

  __device__ __forceinline__ float operator()(float p, float g, float* state, const float* hyper) const {
    const float direction = beta1 * state[0] + (1.0f - beta1) * g;
    const float sign = static_cast<float>((direction > 0.0f) - (direction < 0.0f));
    state[0] = beta2 * state[0] + (1.0f - beta2) * g;
    return p - hyper[0] * (sign + decay * p);
  }
};

Kernel prepare_lion(const KernelNode& node) {
  const auto number = [&](const char* name) { return static_cast<float>(node.attrs.number(name)); };
  return update_kernel(node, Lion{number("beta1"), number("beta2"), number("decay")});
}

}  // namespace

DeviceKernel lion() {
  return {.prepare = prepare_lion};
}

}  // namespace takt::cuda
