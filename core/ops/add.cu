// add: y = x0 + x1 + .. , where later terms may lack leading axes: element e of y is the sum of x_i[e mod period_i],
// period_i the elements of term i. Summed in f32 in the order of the terms and rounded once.
//
// Traffic   every element of a full term once; a repeated term is small and stays in the second-level cache.
// Blocks    of 256 threads that stride over the grid, 16 bytes an access where every term is whole packs long and aligned.
#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

constexpr int kMostTerms = 16;  // they are parameters of the kernel

template <class T>
struct Terms {
  const T* x[kMostTerms];
  std::int64_t periods[kMostTerms];
  int num_terms;
};

template <int kWidth, class T>
__device__ __forceinline__ void add_pack(const Terms<T>& terms, T* y, std::int64_t first,
                                         std::int64_t num_elements) {
  float sums[kWidth];
  load(terms.x[0] + first, sums);
  for (int t = 1; t < terms.num_terms; ++t) {
    const std::int64_t period = terms.periods[t];
    float values[kWidth];
    load(terms.x[t] + (period == num_elements ? first : first % period), values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[i] += values[i];
  }
  store(y + first, sums);  // y may be the first term's storage: these elements have been read
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads) add_terms(Terms<T> terms, T* y, std::int64_t num_elements) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  for (; first + kWidth <= num_elements; first += step) add_pack<kWidth>(terms, y, first, num_elements);
  for (; first < num_elements; ++first) add_pack<1>(terms, y, first, num_elements);
}

template <class T>
void launch_add(const KernelArgs& k, const std::vector<std::int64_t>& periods) {
  constexpr int kWidth = kPackWidth<T>;
  Terms<T> terms{};
  terms.num_terms = static_cast<int>(periods.size());
  T* y = k.output<T>(0);
  bool packed = is_aligned(y);
  for (std::size_t t = 0; t < periods.size(); ++t) {
    terms.x[t] = k.input<T>(t);
    terms.periods[t] = periods[t];
    packed &= is_aligned(terms.x[t]) && (periods[t] == periods[0] || periods[t] % kWidth == 0);
  }
  launch(packed ? add_terms<kWidth, T> : add_terms<1, T>,
         dim3(strided_blocks(divide_up(periods[0], packed ? kWidth : 1))), dim3(kBlockThreads), 0,
         static_cast<cudaStream_t>(k.stream), terms, y, periods[0]);
}

Kernel prepare_add(const KernelNode& node) {
  TAKT_REQUIRE(node.inputs.size() <= kMostTerms, "add '", node.name, "': ", node.inputs.size(),
               " terms; the CUDA kernel takes up to ", kMostTerms, ", so add them in several nodes");
  std::vector<std::int64_t> periods;
  for (const TensorDesc& input : node.inputs) periods.push_back(input.num_elements());
  return with_floating(node.output(0).dtype, [&](auto type) -> Kernel {
    return [periods](const KernelArgs& k) { launch_add<decltype(type)>(k, periods); };
  });
}

}  // namespace

DeviceKernel add() {
  return {.prepare = prepare_add, .bf16 = true};
}

}  // namespace takt::cuda
