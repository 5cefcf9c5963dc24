// normalize_matrices: y = x / (|x| + eps), matrix by matrix;  weighted_sum: y = a x + b z
//
// Sums      a thread adds squares in f32, everything above the thread in double, in a fixed order (as in grad_norm.cu).
// Traffic   x twice and y once; few matrices are longer than the cache.
// Blocks    a row of blocks a matrix, of 256 threads that stride over it. The second kernel adds up the blocks' sums, a few
//           hundred, in every block again.
#include "optimizers/newton_schulz.h"

#include "core/device/cuda/launch.h"
#include "core/device/cuda/row_group.cuh"
#include "core/ops/elementwise.cuh"

namespace takt::cuda {
namespace {

constexpr std::int64_t kMostBlocks = 256;  // a matrix
constexpr std::int64_t kElementsAThread = 8;

__device__ __forceinline__ std::int64_t first_element() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__global__ void __launch_bounds__(kBlockThreads)
    squares_of_matrices(const float* x, double* sums, std::int64_t num_elements) {
  const float* own = x + blockIdx.y * num_elements;
  float sum = 0;
  for (std::int64_t i = first_element(); i < num_elements;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x)
    sum += own[i] * own[i];
  const double total = over_row<kBlockThreads>(static_cast<double>(sum), Sum());
  if (threadIdx.x == 0) sums[blockIdx.y * gridDim.x + blockIdx.x] = total;
}

__global__ void __launch_bounds__(kBlockThreads)
    scale_matrices(const float* x, const double* sums, float* y, std::int64_t num_elements, double eps) {
  double sum = 0;
  for (unsigned block = threadIdx.x; block < gridDim.x; block += blockDim.x)
    sum += sums[blockIdx.y * gridDim.x + block];
  const double total = over_row<kBlockThreads>(sum, Sum());
  const auto factor = static_cast<float>(1.0 / (sqrt(total) + eps));
  const std::int64_t start = blockIdx.y * num_elements;
  for (std::int64_t i = first_element(); i < num_elements;
       i += static_cast<std::int64_t>(gridDim.x) * blockDim.x)
    y[start + i] = factor * x[start + i];
}

struct Matrices {
  unsigned count = 1;
  std::int64_t num_elements = 1;  // of each
  explicit Matrices(const KernelNode& node) {
    const Dims& dims = node.input(0).dims;
    const auto num_stacked = static_cast<std::size_t>(node.attrs.integer("num_stacked"));
    for (std::size_t d = 0; d < num_stacked; ++d) count *= static_cast<unsigned>(dims[d].extent);
    for (std::size_t d = num_stacked; d < dims.size(); ++d) num_elements *= dims[d].extent;
  }
  // The number of blocks, and with it the order of the sum, depends on the matrices only.
  unsigned num_blocks() const {
    return static_cast<unsigned>(
        std::clamp<std::int64_t>(divide_up(num_elements, kBlockThreads * kElementsAThread), 1, kMostBlocks));
  }
};

std::size_t scratch_normalize(const KernelNode& node) {
  const Matrices m(node);
  return m.count * m.num_blocks() * sizeof(double);
}

Kernel prepare_normalize(const KernelNode& node) {
  return [m = Matrices(node), eps = node.attrs.number("eps")](const KernelArgs& k) {
    const auto stream = static_cast<cudaStream_t>(k.stream);
    auto* sums = static_cast<double*>(k.scratch);
    const dim3 grid(m.num_blocks(), m.count), block(kBlockThreads);
    launch(squares_of_matrices, grid, block, 0, stream, k.input<float>(0), sums, m.num_elements);
    launch(scale_matrices, grid, block, 0, stream, k.input<float>(0), sums, k.output<float>(0),
           m.num_elements, eps);
  };
}

struct WeightedSum {
  static constexpr int kInputs = 2, kOutputs = 1;
  float a, b;
  __device__ void operator()(const float* x, float* y) const { y[0] = a * x[0] + b * x[1]; }
};

Kernel prepare_sum(const KernelNode& node) {
  return elementwise_kernel(node, WeightedSum{static_cast<float>(node.attrs.number("a")),
                                              static_cast<float>(node.attrs.number("b"))});
}

}  // namespace

DeviceKernel normalize_matrices() {
  return {.prepare = prepare_normalize, .scratch_bytes = scratch_normalize};
}

DeviceKernel weighted_sum() {
  return {.prepare = prepare_sum};
}

}  // namespace takt::cuda
