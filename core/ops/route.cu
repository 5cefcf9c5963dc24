// route: the largest logits of each token, their softmax, and places in the order of tokens; route_grad: softmax's gradient
//
// Choices   a thread a token: rows are short. The next pick is the largest logit behind the last one in the order of size,
//           then number, so that nothing has to be remembered.
// Places    a block an expert and sample, whose threads own stretches of its picks in order: they count the expert's in
//           theirs, and give out places from what those before them counted. The same numbers in every run, no atomics.
// Scratch   the expert of each pick.
// Traffic   logits a few times, from the cache; picks once for each expert. Small beside the tokens themselves.
#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

struct RouteShape {
  std::int64_t batch, seq, choices, picks, capacity;
};

RouteShape shape_of(const KernelNode& node) {
  const Dims& dims = node.input(0).dims;
  return {dims[0].extent, dims[1].extent, dims[2].extent, node.attrs.integer("picks"),
          node.attrs.integer("capacity")};
}

// The largest logit behind number `last` in the order of picks; last = -1: of all. Where nothing compares (NaN), `otherwise`.
__device__ __forceinline__ int next_pick(const float* logits, int choices, int last, int otherwise) {
  int best = -1;
  for (int e = 0; e < choices; ++e) {
    const bool is_behind = last < 0 || logits[e] < logits[last] || (logits[e] == logits[last] && e > last);
    if (is_behind && (best < 0 || logits[e] > logits[best])) best = e;
  }
  return best < 0 ? otherwise : best;
}

__global__ void __launch_bounds__(kBlockThreads)
    choose(const float* logits, std::int64_t num_tokens, int choices, int picks, float* weights,
           std::int32_t* experts) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; t < num_tokens;
       t += step) {
    const float* row = logits + t * choices;
    float max = 0, sum = 0;
    for (int p = 0, last = -1; p < picks; ++p) {
      last = next_pick(row, choices, last, p);
      if (p == 0) max = row[last];
      experts[t * picks + p] = last;
      sum += weights[t * picks + p] = expf(row[last] - max);
    }
    for (int p = 0; p < picks; ++p) weights[t * picks + p] /= sum;
  }
}

// Of expert blockIdx.x in sample blockIdx.y.
__global__ void __launch_bounds__(kBlockThreads)
    place(const std::int32_t* experts, std::int64_t num_picks, std::int64_t seq, std::int32_t capacity,
          std::int32_t* slots, float* load) {
  __shared__ std::int32_t counts[kBlockThreads];
  const auto expert = static_cast<std::int32_t>(blockIdx.x);
  experts += blockIdx.y * num_picks;
  slots += blockIdx.y * num_picks;
  const std::int64_t stretch = (num_picks + kBlockThreads - 1) / kBlockThreads, first = threadIdx.x * stretch,
                     last = first + stretch < num_picks ? first + stretch : num_picks;
  std::int32_t mine = 0;
  for (std::int64_t i = first; i < last; ++i) mine += experts[i] == expert ? 1 : 0;
  counts[threadIdx.x] = mine;
  __syncthreads();
  std::int32_t at = 0;
  for (unsigned before = 0; before < threadIdx.x; ++before) at += counts[before];
  for (std::int64_t i = first; i < last; ++i) {
    if (experts[i] != expert) continue;
    slots[i] = at < capacity ? expert * capacity + at : -1 - expert;
    ++at;
  }
  if (threadIdx.x == kBlockThreads - 1)
    load[blockIdx.y * gridDim.x + blockIdx.x] = static_cast<float>(at) / static_cast<float>(seq);
}

std::size_t scratch(const KernelNode& node) {
  return static_cast<std::size_t>(node.output(1).num_elements()) * sizeof(std::int32_t);
}

Kernel prepare(const KernelNode& node) {
  return [s = shape_of(node)](const KernelArgs& k) {
    constexpr std::int64_t kMostRows = 65535;
    TAKT_ASSERT(s.batch <= kMostRows, "cuda: a grid of ", s.batch, " rows of blocks");
    const auto stream = static_cast<cudaStream_t>(k.stream);
    auto* experts = static_cast<std::int32_t*>(k.scratch);
    launch(choose, dim3(strided_blocks(s.batch * s.seq)), dim3(kBlockThreads), 0, stream, k.input<float>(0),
           s.batch * s.seq, s.choices, s.picks, k.output<float>(0), experts);
    launch(place, dim3(blocks_of(s.choices), static_cast<unsigned>(s.batch)), dim3(kBlockThreads), 0, stream,
           experts, s.seq * s.picks, s.seq, s.capacity, k.output<std::int32_t>(1), k.output<float>(2));
  };
}

__global__ void __launch_bounds__(kBlockThreads)
    route_gradient(const float* weights, const std::int32_t* slots, const float* dweights,
                   std::int64_t num_tokens, int choices, int picks, std::int32_t capacity, float* dlogits) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t t = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; t < num_tokens;
       t += step) {
    float* row = dlogits + t * choices;
    float sum = 0;
    for (int e = 0; e < choices; ++e) row[e] = 0;
    for (std::int64_t p = t * picks; p < (t + 1) * picks; ++p) sum += weights[p] * dweights[p];
    for (std::int64_t p = t * picks; p < (t + 1) * picks; ++p)
      row[slots[p] < 0 ? -1 - slots[p] : slots[p] / capacity] = weights[p] * (dweights[p] - sum);
  }
}

Kernel prepare_grad(const KernelNode& node) {
  const std::int64_t picks = node.input(0).dims.back().extent;
  return [picks, num_tokens = node.input(0).num_elements() / picks, choices = node.attrs.integer("choices"),
          capacity = node.attrs.integer("capacity")](const KernelArgs& k) {
    launch(route_gradient, dim3(strided_blocks(num_tokens)), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), k.input<float>(0), k.input<std::int32_t>(1),
           k.input<float>(2), num_tokens, choices, picks, capacity, k.output<float>(0));
  };
}

}  // namespace

DeviceKernel route() {
  return {.prepare = prepare, .scratch_bytes = scratch};
}

DeviceKernel route_grad() {
  return {.prepare = prepare_grad};
}

}  // namespace takt::cuda
