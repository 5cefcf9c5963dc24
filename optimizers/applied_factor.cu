// applied_factor: failed = failed or not finite(factor) or not finite(loss);  applied = failed ? NaN : factor. One thread.
#include "optimizers/applied_factor.h"

#include "core/device/cuda/launch.h"

namespace takt::cuda {
namespace {

__global__ void apply_unless_failed(const float* factor, const float* loss, bool forgives, float* applied,
                                    float* failed) {
  if (forgives) *failed = 0.0f;
  if (!isfinite(*factor) || !isfinite(*loss)) *failed = 1.0f;
  *applied = *failed != 0.0f ? __int_as_float(0x7FC00000) : *factor;  // NaN
}

Kernel prepare(const KernelNode& node) {
  return [forgives = node.attrs.flag("forgives")](const KernelArgs& k) {
    launch(apply_unless_failed, dim3(1), dim3(1), 0, static_cast<cudaStream_t>(k.stream), k.input<float>(0),
           k.input<float>(1), forgives, k.output<float>(0), k.output<float>(1));
  };
}

}  // namespace

DeviceKernel applied_factor() {
  return {.prepare = prepare};
}

}  // namespace takt::cuda
