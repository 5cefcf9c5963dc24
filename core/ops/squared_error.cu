// squared_error: y = (x - t)^2;  squared_error_grad: dx = 2 (x - t) dy, dt = -dx. One read an input and one write an output;
// see elementwise.cuh.
#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct SquaredError {
  static constexpr int kInputs = 2, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = (x[0] - x[1]) * (x[0] - x[1]); }
};

struct SquaredErrorGrad {
  static constexpr int kInputs = 3, kOutputs = 2;
  __device__ void operator()(const float* x, float* y) const {
    y[0] = 2.0f * (x[0] - x[1]) * x[2];
    y[1] = -y[0];
  }
};

}  // namespace

DeviceKernel squared_error() {
  return {.prepare = prepare_elementwise<SquaredError>};
}

DeviceKernel squared_error_grad() {
  return {.prepare = prepare_elementwise<SquaredErrorGrad>};
}

}  // namespace takt::cuda
