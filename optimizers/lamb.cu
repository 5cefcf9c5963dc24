// lamb: u = m c1 / (sqrt(v c2) + eps) + decay p, then p = p - lr trust u with trust = |p| / |u|; see lamb.cpp
//
// Traffic   the direction seven accesses of 4 bytes an element, the step three, each one pass (elementwise.cuh). Norms,
//           hyperparameters and the factor are read on the device, so that a step can be replayed with others; a factor
//           that is not finite leaves everything as it was.
#include "optimizers/lamb.h"

#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct LambDirection {
  static constexpr int kInputs = 4, kOutputs = 3;
  float beta1, beta2, eps, decay;
  const float *hyper = nullptr, *factor = nullptr;

  // x: parameter, gradient, m, v. y: direction, m, v.
  __device__ void operator()(const float* x, float* y) const {
    const bool steps = isfinite(*factor);
    const float g = *factor * x[1];
    const float m = beta1 * x[2] + (1.0f - beta1) * g, v = beta2 * x[3] + (1.0f - beta2) * g * g;
    y[0] = steps ? m * hyper[1] / (sqrtf(v * hyper[2]) + eps) + decay * x[0] : 0.0f;
    y[1] = steps ? m : x[2];
    y[2] = steps ? v : x[3];
  }
};

struct Lamb {
  static constexpr int kInputs = 2, kOutputs = 1;
  const float *squares = nullptr, *hyper = nullptr, *factor = nullptr;

  // x: parameter, direction. y: parameter.
  __device__ void operator()(const float* x, float* y) const {
    const bool is_adapted = squares[0] > 0.0f && squares[1] > 0.0f;
    const float trust = is_adapted ? sqrtf(squares[0]) / sqrtf(squares[1]) : 1.0f;
    y[0] = isfinite(*factor) ? x[0] - hyper[0] * trust * x[1] : x[0];
  }
};

Kernel prepare_direction(const KernelNode& node) {
  const auto number = [&](const char* name) { return static_cast<float>(node.attrs.number(name)); };
  return [f = LambDirection{number("beta1"), number("beta2"), number("eps"), number("decay")},
          num_elements = node.input(0).num_elements()](const KernelArgs& k) {
    LambDirection update = f;
    update.hyper = k.input<float>(4);
    update.factor = k.input<float>(5);
    launch_elementwise<float, float>(update, k, num_elements);
  };
}

Kernel prepare_update(const KernelNode& node) {
  return [num_elements = node.input(0).num_elements()](const KernelArgs& k) {
    launch_elementwise<float, float>(Lamb{k.input<float>(2), k.input<float>(3), k.input<float>(4)}, k,
                                     num_elements);
  };
}

}  // namespace

DeviceKernel lamb_direction() {
  return {.prepare = prepare_direction};
}

DeviceKernel lamb() {
  return {.prepare = prepare_update};
}

}  // namespace takt::cuda
