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

// y = the terms, of which the first has y's elements.
template <class T>
void launch_add(const Terms<T>& terms, T* y, cudaStream_t stream) {
  constexpr int kWidth = kPackWidth<T>;
  const std::int64_t num_elements = terms.periods[0];
  bool packed = is_aligned(y);
  for (int t = 0; t < terms.num_terms; ++t)
    packed &= is_aligned(terms.x[t]) && (terms.periods[t] == num_elements || terms.periods[t] % kWidth == 0);
  launch(packed ? add_terms<kWidth, T> : add_terms<1, T>,
         dim3(strided_blocks(divide_up(num_elements, packed ? kWidth : 1))), dim3(kBlockThreads), 0, stream,
         terms, y, num_elements);
}

// More terms than a launch takes are added to y by further ones.
template <class T>
void add_all(const KernelArgs& k, const std::vector<std::int64_t>& periods) {
  T* y = k.output<T>(0);
  Terms<T> terms{};
  for (std::size_t t = 0; t < periods.size(); ++t) {
    terms.x[terms.num_terms] = k.input<T>(t);
    terms.periods[terms.num_terms++] = periods[t];
    if (terms.num_terms < kMostTerms && t + 1 < periods.size()) continue;
    launch_add(terms, y, static_cast<cudaStream_t>(k.stream));
    terms = {.x = {y}, .periods = {periods[0]}, .num_terms = 1};
  }
}

Kernel prepare_add(const KernelNode& node) {
  TAKT_REQUIRE(node.output(0).dtype == DType::kF32 || node.inputs.size() <= kMostTerms, "add '", node.name,
               "': ", node.inputs.size(), " terms of ", node.output(0).dtype,
               "; the CUDA kernel rounds once, which it can do for ", kMostTerms,
               "\n  add them in several nodes, or in f32");
  std::vector<std::int64_t> periods;
  for (const TensorDesc& input : node.inputs) periods.push_back(input.num_elements());
  return with_floating(node.output(0).dtype, [&](auto type) -> Kernel {
    return [periods](const KernelArgs& k) { add_all<decltype(type)>(k, periods); };
  });
}

}  // namespace

DeviceKernel add() {
  return {.prepare = prepare_add, .bf16 = true};
}

}  // namespace takt::cuda
