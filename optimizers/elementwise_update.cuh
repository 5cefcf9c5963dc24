// CUDA kernels of elementwise optimizer updates: parameter and state in f32, in place, one pass.
//
// Traffic   parameter, gradient and state once in, parameter and state once out, 16 bytes an access. An output behind the
//           state is the new parameter in bf16, written in the same pass.
// Blocks    of 256 threads that stride over the grid. Hyperparameters and the factor are read on the device, so that a step
//           can be replayed with others; a factor that is not finite leaves everything as it was, but the copy is written.
#pragma once

#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.cuh"
#include "core/graph/op.h"

namespace takt::cuda {

template <int kStates>
struct UpdateTensors {
  const float* grad = nullptr;
  float* parameter = nullptr;
  float* states[kStates] = {};
  __nv_bfloat16* copy = nullptr;  // of the parameter, where the node has it
  const float *hyper = nullptr, *factor = nullptr;
};

template <int kWidth, class Update>
__device__ __forceinline__ void update_pack(const Update& update, const UpdateTensors<Update::kStates>& t,
                                            std::int64_t first, float factor) {
  float p[kWidth], grads[kWidth], states[Update::kStates][kWidth];
  load(t.parameter + first, p);
  if (isfinite(factor)) {
    load(t.grad + first, grads);
#pragma unroll
    for (int s = 0; s < Update::kStates; ++s) load(t.states[s] + first, states[s]);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      float state[Update::kStates];
#pragma unroll
      for (int s = 0; s < Update::kStates; ++s) state[s] = states[s][i];
      p[i] = update(p[i], factor * grads[i], state, t.hyper);
#pragma unroll
      for (int s = 0; s < Update::kStates; ++s) states[s][i] = state[s];
    }
    store(t.parameter + first, p);
#pragma unroll
    for (int s = 0; s < Update::kStates; ++s) store(t.states[s] + first, states[s]);
  }
  if (t.copy != nullptr) store(t.copy + first, p);
}

template <int kWidth, class Update>
__global__ void __launch_bounds__(kBlockThreads)
    update_packs(Update update, UpdateTensors<Update::kStates> tensors, std::int64_t num_elements) {
  const float factor = *tensors.factor;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  for (; first + kWidth <= num_elements; first += step) update_pack<kWidth>(update, tensors, first, factor);
  for (; first < num_elements; ++first) update_pack<1>(update, tensors, first, factor);
}

// The kernel of a node with inputs parameter, gradient, kStates states, hyper, factor. Update is
//   float operator()(float parameter, float gradient, float* state, const float* hyper) const
// which returns the new parameter and overwrites the state.
template <class Update>
Kernel update_kernel(const KernelNode& node, const Update& update) {
  const bool copies = node.outputs.size() > Update::kStates + 1;
  return [update, copies, num_elements = node.input(0).num_elements()](const KernelArgs& k) {
    constexpr std::size_t kStates = Update::kStates;
    UpdateTensors<Update::kStates> t{.grad = k.input<float>(1), .parameter = k.output<float>(0)};
    bool packed = is_aligned(t.grad) && is_aligned(t.parameter);
    for (std::size_t s = 0; s < kStates; ++s) packed &= is_aligned(t.states[s] = k.output<float>(s + 1));
    if (copies) packed &= is_aligned(t.copy = k.output<__nv_bfloat16>(kStates + 1));
    t.hyper = k.input<float>(kStates + 2);
    t.factor = k.input<float>(kStates + 3);
    constexpr int kWidth = kPackWidth<float>;
    launch(packed ? update_packs<kWidth, Update> : update_packs<1, Update>,
           dim3(strided_blocks(divide_up(num_elements, packed ? kWidth : 1))), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), update, t, num_elements);
  };
}

}  // namespace takt::cuda
