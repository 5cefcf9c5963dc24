// fill: y = value, f32. One write an element, 16 bytes an access; blocks of 256 threads that stride over the grid.
#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/pack.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

template <int kWidth>
__global__ void __launch_bounds__(kBlockThreads)
    fill_packs(float* y, float value, std::int64_t num_elements) {
  float values[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) values[i] = value;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
  for (; first + kWidth <= num_elements; first += step) store(y + first, values);
  for (; first < num_elements; ++first) y[first] = value;
}

Kernel prepare_fill(const KernelNode& node) {
  return [value = static_cast<float>(node.attrs.number("value")),
          num_elements = node.output(0).num_elements()](const KernelArgs& k) {
    constexpr int kWidth = kPackWidth<float>;
    float* y = k.output<float>(0);
    const bool packed = is_aligned(y);
    launch(packed ? fill_packs<kWidth> : fill_packs<1>,
           dim3(strided_blocks(divide_up(num_elements, packed ? kWidth : 1))), dim3(kBlockThreads), 0,
           static_cast<cudaStream_t>(k.stream), y, value, num_elements);
  };
}

}  // namespace

DeviceKernel fill() {
  return {.prepare = prepare_fill};
}

}  // namespace takt::cuda
