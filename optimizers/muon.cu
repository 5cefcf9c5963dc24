// muon_direction: m = momentum m + g, d = g + momentum m, g = factor grad;  muon: p = p - lr ( scale o + decay p )
//
// Traffic   four accesses of 4 bytes an element, then three, each one pass (elementwise.cuh). Hyperparameters and the factor
//           are read on the device, so that a step can be replayed with others; a factor that is not finite leaves
//           everything as it was.
#include "optimizers/muon.h"

#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct MuonDirection {
  static constexpr int kInputs = 2, kOutputs = 2;
  float momentum;
  const float* factor = nullptr;

  // x: gradient, m. y: direction, m.
  __device__ void operator()(const float* x, float* y) const {
    const bool steps = isfinite(*factor);
    const float g = *factor * x[0], m = momentum * x[1] + g;
    y[0] = steps ? g + momentum * m : 0.0f;
    y[1] = steps ? m : x[1];
  }
};

struct Muon {
  static constexpr int kInputs = 2, kOutputs = 1;
  float scale, decay;
  const float *hyper = nullptr, *factor = nullptr;

  // x: parameter, orthogonal direction. y: parameter.
  __device__ void operator()(const float* x, float* y) const {
    y[0] = isfinite(*factor) ? x[0] - hyper[0] * (scale * x[1] + decay * x[0]) : x[0];
  }
};

Kernel prepare_direction(const KernelNode& node) {
  return [momentum = static_cast<float>(node.attrs.number("momentum")),
          num_elements = node.input(0).num_elements()](const KernelArgs& k) {
    launch_elementwise<float, float>(MuonDirection{momentum, k.input<float>(2)}, k, num_elements);
  };
}

Kernel prepare_update(const KernelNode& node) {
  const Muon update{static_cast<float>(node.attrs.number("scale")),
                    static_cast<float>(node.attrs.number("decay"))};
  const std::int64_t num_elements = node.input(0).num_elements(),
                     start = num_elements * node.attrs.integer("index");
  return [=](const KernelArgs& k) {
    Muon f = update;
    f.hyper = k.input<float>(2);
    f.factor = k.input<float>(3);
    void* const inputs[] = {k.inputs[0], static_cast<float*>(k.inputs[1]) + start};
    launch_elementwise<float, float>(f, {.inputs = inputs, .outputs = k.outputs, .stream = k.stream},
                                     num_elements);
  };
}

}  // namespace

DeviceKernel muon_direction() {
  return {.prepare = prepare_direction};
}

DeviceKernel muon() {
  return {.prepare = prepare_update};
}

}  // namespace takt::cuda
