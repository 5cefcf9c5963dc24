// sum_squares: y = sum_i x[i]^2;  clip_factor: norm = sqrt(y), factor = min(1, max_norm / norm).
//
// Sums      a thread adds squares in f32, at most a few hundred for a tensor of a billion elements; everything above the
//           thread, the block's tree and the blocks' sums in their order, is double. The same bits in every run.
// Traffic   x once, 16 bytes an access. The blocks' sums are a few kilobytes.
// Blocks    of 256 threads that stride over the grid; a second kernel of one block adds up the blocks.
#include "core/device/cuda/launch.h"
#include "core/device/cuda/row_group.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

template <int kWidth, class T>
__device__ __forceinline__ float add_squares(const T* x, float sum) {
  float values[kWidth];
  load(x, values);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sum += values[i] * values[i];
  return sum;
}

template <int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    squares_of_blocks(const T* x, double* sums, std::int64_t num_elements) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  float sum = 0;
  for (; first + kWidth <= num_elements; first += step) sum = add_squares<kWidth>(x + first, sum);
  for (; first < num_elements; ++first) sum = add_squares<1>(x + first, sum);
  const double total = over_row<kBlockThreads>(static_cast<double>(sum), Sum());
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads) add_blocks(const double* sums, T* y, int num_blocks) {
  double sum = 0;
  for (int block = static_cast<int>(threadIdx.x); block < num_blocks; block += kBlockThreads)
    sum += sums[block];
  const double total = over_row<kBlockThreads>(sum, Sum());
  if (threadIdx.x == 0) *y = stored<T>(static_cast<float>(total));
}

// The number of blocks, and with it the order of the sum, depends on the tensor only.
template <class T>
unsigned num_blocks_of(std::int64_t num_elements) {
  return strided_blocks(divide_up(num_elements, kPackWidth<T>));
}

std::size_t scratch_squares(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) {
    return num_blocks_of<decltype(type)>(node.input(0).num_elements()) * sizeof(double);
  });
}

template <class T>
void launch_squares(const KernelArgs& k, std::int64_t num_elements) {
  const auto stream = static_cast<cudaStream_t>(k.stream);
  const unsigned num_blocks = num_blocks_of<T>(num_elements);
  auto* sums = static_cast<double*>(k.scratch);
  const T* x = k.input<T>(0);
  launch(is_aligned(x) ? squares_of_blocks<kPackWidth<T>, T> : squares_of_blocks<1, T>, dim3(num_blocks),
         dim3(kBlockThreads), 0, stream, x, sums, num_elements);
  launch(add_blocks<T>, dim3(1), dim3(kBlockThreads), 0, stream, sums, k.output<T>(0),
         static_cast<int>(num_blocks));
}

Kernel prepare_squares(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [num_elements = node.input(0).num_elements()](const KernelArgs& k) {
      launch_squares<decltype(type)>(k, num_elements);
    };
  });
}

// A norm that is not finite gives a factor that is not either, which optimizers take as "leave everything as it is".
__global__ void clip(const float* square, float* norm, float* factor, double max_norm) {
  const double root = sqrt(static_cast<double>(*square));
  *norm = static_cast<float>(root);
  *factor = !isfinite(root)                   ? __int_as_float(0x7FC00000)  // NaN
            : max_norm > 0 && root > max_norm ? static_cast<float>(max_norm / root)
                                              : 1.0f;
}

Kernel prepare_clip(const KernelNode& node) {
  return [max_norm = node.attrs.number("max_norm")](const KernelArgs& k) {
    launch(clip, dim3(1), dim3(1), 0, static_cast<cudaStream_t>(k.stream), k.input<float>(0),
           k.output<float>(0), k.output<float>(1), max_norm);
  };
}

}  // namespace

DeviceKernel sum_squares() {
  return {.prepare = prepare_squares, .scratch_bytes = scratch_squares, .bf16 = true};
}

DeviceKernel clip_factor() {
  return {.prepare = prepare_clip};
}

}  // namespace takt::cuda
