// sgd: u = momentum u + g;  p = p - lr ( u + decay p ), g = factor grad
//
// Five accesses of 4 bytes an element, one pass; see elementwise_update.cuh.
#include "optimizers/sgd.h"

#include "optimizers/elementwise_update.cuh"

namespace takt::cuda {
namespace {

struct Sgd {
  static constexpr int kStates = 1;
  float momentum, decay;

  __device__ __forceinline__ float operator()(float p, float g, float* state, const float* hyper) const {
    state[0] = momentum * state[0] + g;
    return p - hyper[0] * (state[0] + decay * p);
  }
};

Kernel prepare_sgd(const KernelNode& node) {
  const auto number = [&](const char* name) { return static_cast<float>(node.attrs.number(name)); };
  return update_kernel(node, Sgd{number("momentum"), number("decay")});
}

}  // namespace

DeviceKernel sgd() {
  return {.prepare = prepare_sgd};
}

}  // namespace takt::cuda
