// assign: target = x, a copy on the device;  accumulate: buffer += x in f32, in the buffer's storage, two reads and one
// write an element; see elementwise.cuh.
#include "core/ops/cuda_kernels.h"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

struct Accumulate {
  static constexpr int kInputs = 2, kOutputs = 1;
  __device__ void operator()(const float* x, float* y) const { y[0] = x[0] + x[1]; }
};

Kernel prepare_assign(const KernelNode& node) {
  return [num_bytes = node.input(0).num_bytes()](const KernelArgs& k) {
    TAKT_CUDA(cudaMemcpyAsync(k.outputs[0], k.inputs[1], num_bytes, cudaMemcpyDeviceToDevice,
                              static_cast<cudaStream_t>(k.stream)));
  };
}

}  // namespace

DeviceKernel accumulate() {
  return {.prepare = prepare_elementwise<Accumulate>};
}

DeviceKernel assign() {
  return {.prepare = prepare_assign, .bf16 = true};
}

}  // namespace takt::cuda
