// router_loss: balance E sum_e load_e p_e + z lse^2, a token;  router_loss_grad: its gradient by the logits.
//
// Traffic   the logits, read from memory once and then from the cache, and in the gradient written once. A thread a token:
//           rows are as long as there are experts.
#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

struct RouterShape {
  std::int64_t num_tokens, seq;
  int choices;
  float balance, z;  // balance: times the number of choices
};

RouterShape shape_of(const KernelNode& node) {
  const Dims& dims = node.input(0).dims;
  const std::int64_t choices = dims[2].extent;
  return {dims[0].extent * dims[1].extent, dims[1].extent, static_cast<int>(choices),
          static_cast<float>(node.attrs.number("balance") * static_cast<double>(choices)),
          static_cast<float>(node.attrs.number("z"))};
}

// What both need of a token: the probability of a choice is exp(logit - lse); load is the sum of loads times those.
struct RouterToken {
  const float *logits, *loads;
  float lse, load;

  __device__ RouterToken(const RouterShape& s, const float* all_logits, const float* all_loads,
                         std::int64_t t)
      : logits(all_logits + t * s.choices), loads(all_loads + t / s.seq * s.choices), lse(0), load(0) {
    float max = logits[0], sum = 0;
    for (int e = 1; e < s.choices; ++e) max = fmaxf(max, logits[e]);
    for (int e = 0; e < s.choices; ++e) sum += expf(logits[e] - max);
    lse = max + logf(sum);
    for (int e = 0; e < s.choices; ++e) load += loads[e] * expf(logits[e] - lse);
  }
};

__global__ void __launch_bounds__(kBlockThreads)
    router_losses(RouterShape s, const float* logits, const float* loads, float* y) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; t < s.num_tokens;
       t += step) {
    const RouterToken token(s, logits, loads, t);
    y[t] = s.balance * token.load + s.z * token.lse * token.lse;
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    router_gradients(RouterShape s, const float* logits, const float* loads, const float* dy,
                     float* dlogits) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; t < s.num_tokens;
       t += step) {
    const RouterToken token(s, logits, loads, t);
    const float of_z = 2.0f * s.z * token.lse;
    for (int e = 0; e < s.choices; ++e)
      dlogits[t * s.choices + e] =
          dy[t] * expf(token.logits[e] - token.lse) * (s.balance * (token.loads[e] - token.load) + of_z);
  }
}

Kernel prepare(const KernelNode& node) {
  return [s = shape_of(node)](const KernelArgs& k) {
    launch(router_losses, dim3(strided_blocks(s.num_tokens)), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), s, k.input<float>(0), k.input<float>(1), k.output<float>(0));
  };
}

Kernel prepare_grad(const KernelNode& node) {
  return [s = shape_of(node)](const KernelArgs& k) {
    launch(router_gradients, dim3(strided_blocks(s.num_tokens)), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), s, k.input<float>(0), k.input<float>(1), k.input<float>(2),
           k.output<float>(0));
  };
}

}  // namespace

DeviceKernel router_loss() {
  return {.prepare = prepare};
}

DeviceKernel router_loss_grad() {
  return {.prepare = prepare_grad};
}

}  // namespace takt::cuda
