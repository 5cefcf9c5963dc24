// Kernels of the emulator's own tests: see kernels_for_tests.h.
#include "tests/emulated/kernels_for_tests.h"

#include <cuda_runtime.h>

#include "tests/emulated/launch_for_tests.h"

namespace takt::emulated::test {
namespace {

__device__ float warp_sum(float x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

__device__ float block_sum(float x) {
  __shared__ float of_warps[32];
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  float total = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) total += of_warps[w];
  __syncthreads();  // before the next sum overwrites them
  return total;
}

__global__ void axpy_kernel(float a, const float* x, float* y, unsigned num) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < num) y[i] += a * x[i];
}

__global__ void __launch_bounds__(1024)
    sum_rows_kernel(const float* __restrict__ x, float* sums, unsigned cols) {
  float sum = 0;
  for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) sum += x[blockIdx.x * cols + c];
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void softmax_kernel(const float* x, float* y, unsigned cols) {
  TAKT_DYNAMIC_SHARED(float, row);
  float largest = -INFINITY;
  for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) {
    row[c] = x[blockIdx.x * cols + c];
    largest = fmaxf(largest, row[c]);
  }
  __shared__ float shared_largest[2];
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_down_sync(0xffffffffu, largest, unsigned(offset)));
  if (threadIdx.x % 32 == 0) shared_largest[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = max(shared_largest[0], shared_largest[1]);
  float sum = 0;
  for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) sum += row[c] = __expf(row[c] - largest);
  sum = block_sum(sum);
  for (unsigned c = threadIdx.x; c < cols; c += blockDim.x) y[blockIdx.x * cols + c] = row[c] / sum;
}

template <unsigned kTile>
__global__ void matmul_kernel(const float* a, const float* b, float* c, unsigned n) {
  __shared__ float tile_a[kTile][kTile + 1];
  __shared__ float tile_b[kTile][kTile + 1];
  const unsigned row = blockIdx.y * kTile + threadIdx.y, col = blockIdx.x * kTile + threadIdx.x;
  float sum = 0;
  for (unsigned t = 0; t < n; t += kTile) {
    tile_a[threadIdx.y][threadIdx.x] = row < n && t + threadIdx.x < n ? a[row * n + t + threadIdx.x] : 0.0f;
    tile_b[threadIdx.y][threadIdx.x] = col < n && t + threadIdx.y < n ? b[(t + threadIdx.y) * n + col] : 0.0f;
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < kTile; ++i) sum += tile_a[threadIdx.y][i] * tile_b[i][threadIdx.x];
    __syncthreads();
  }
  if (row < n && col < n) c[row * n + col] = sum;
}

__global__ void histogram_kernel(const int* x, int* counts, unsigned num) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < num) atomicAdd(&counts[x[i]], 1);
}

__global__ void reverse_kernel(const float* x, float* y, bool with_barrier) {
  __shared__ float block[256];
  block[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  if (with_barrier) __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = block[blockDim.x - 1 - threadIdx.x];
}

__global__ void scale_bf16_kernel(const float* x, __nv_bfloat16* y, float* sum, float scale, unsigned num) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= num) return;
  y[i] = __float2bfloat16(x[i]) * __float2bfloat16(scale);
  atomicAdd(sum, __bfloat162float(y[i]));
}

__global__ void warp_operations_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x, all = 0xffffffffu;
  out[lane] = __shfl_up_sync(all, lane, 1);
  out[32 + lane] = __shfl_down_sync(all, lane, 2, 8);
  out[64 + lane] = __shfl_xor_sync(all, lane, 5);
  out[96 + lane] = __ballot_sync(all, lane % 3 == 0);
  out[128 + lane] = __reduce_add_sync(all, lane);
  const unsigned any = unsigned(__any_sync(all, lane == 7)), every = unsigned(__all_sync(all, lane < 31));
  out[160 + lane] = any * 100 + every * 10 + (unsigned(__syncthreads_count(lane < 5)) == 5 ? 1 : 0);
  if (lane < 16)
    out[192 + lane] = __shfl_sync(0x0000ffffu, lane, 15);  // while the others wait for the whole warp
  __syncwarp();
}

__global__ void places_kernel(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned place = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[place] = place;
}

__global__ void polynomial_kernel(Coefficients c, const float* x, float* y, unsigned num) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= num) return;
  float value = 0;
  for (int k = 15; k >= 0; --k) value = fmaf(value, x[i], c.values[k]);
  y[i] = value;
}

__global__ void nothing_kernel() {}

__global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 1;
}
__global__ void barrier_after_exit(float* out) {
  out[threadIdx.x] = 1;
  if (threadIdx.x == 5) return;
  __syncthreads();
}
__global__ void barrier_against_warp(float* out) {
  if (threadIdx.x % 32 == 3)
    __syncthreads();
  else
    __syncwarp();
  out[threadIdx.x] = 1;
}
__global__ void lost_warp_mate(float* out) {
  if (threadIdx.x == 40) {
    __syncwarp(1u << 8);
    __syncthreads();
  }
  out[threadIdx.x] = __shfl_sync(0xffffffffu, float(threadIdx.x), 0);
}
__global__ void mask_without_caller(float* out) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 0);
}
__global__ void overlapping_masks(float* out) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned mask = lane < 16 ? 0x0001ffffu : 0xffff8000u;
  out[threadIdx.x] = __shfl_sync(mask, float(lane), 16);
}
__global__ void different_shuffles(float* out) {
  const float x = float(threadIdx.x);
  if (threadIdx.x % 2 == 0)
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x, 1);
  else
    out[threadIdx.x] = __shfl_down_sync(0xffffffffu, x, 1);
}
__global__ void dynamic_overflow(float* out) {
  TAKT_DYNAMIC_SHARED(float, buffer);
  buffer[threadIdx.x + 1] = 1;  // 64 floats were asked for
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x + 1];
}
__global__ void uninitialised_static(float* out) {
  __shared__ float buffer[64];
  if (threadIdx.x != 9) buffer[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x];
}
__global__ void uninitialised_dynamic(float* out) {
  TAKT_DYNAMIC_SHARED(float, buffer);
  if (threadIdx.x != 9) buffer[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x];
}
__global__ void absent_source(float* out) {
  out[threadIdx.x] = 1;
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}
__global__ void trap(float* out) {
  out[threadIdx.x] = 1;
  if (threadIdx.x == 3) __trap();
}

// Correct only if block 0 runs before the others.
__global__ void blocks_depend_kernel(float* out) {
  if (blockIdx.x == 0) out[0] = 1;
  if (blockIdx.x > 0) out[blockIdx.x] = out[0];
}

unsigned blocks_for(unsigned num) {
  return max(1u, (num + 127) / 128);
}

}  // namespace

cudaError_t axpy(float a, const float* x, float* y, unsigned num, cudaStream_t stream) {
  return launch(axpy_kernel, dim3(blocks_for(num)), dim3(128), 0, stream, a, x, y, num);
}
cudaError_t sum_rows(const float* x, float* sums, unsigned rows, unsigned cols, unsigned num_threads,
                     cudaStream_t stream) {
  return launch(sum_rows_kernel, dim3(rows), dim3(num_threads), 0, stream, x, sums, cols);
}
cudaError_t softmax_rows(const float* x, float* y, unsigned rows, unsigned cols, cudaStream_t stream) {
  return launch(softmax_kernel, dim3(rows), dim3(64), cols * sizeof(float), stream, x, y, cols);
}
cudaError_t matmul(const float* a, const float* b, float* c, unsigned n, cudaStream_t stream) {
  const unsigned tiles = (n + 15) / 16;
  return launch(matmul_kernel<16>, dim3(tiles, tiles), dim3(16, 16), 0, stream, a, b, c, n);
}
cudaError_t histogram(const int* x, int* counts, unsigned num, cudaStream_t stream) {
  return launch(histogram_kernel, dim3(blocks_for(num)), dim3(128), 0, stream, x, counts, num);
}
cudaError_t reverse_blocks(const float* x, float* y, unsigned num_blocks, cudaStream_t stream) {
  return launch(reverse_kernel, dim3(num_blocks), dim3(256), 0, stream, x, y, true);
}
cudaError_t scale_bf16(const float* x, __nv_bfloat16* y, float* sum, float scale, unsigned num,
                       cudaStream_t stream) {
  return launch(scale_bf16_kernel, dim3(blocks_for(num)), dim3(128), 0, stream, x, y, sum, scale, num);
}
cudaError_t warp_operations(unsigned* out, cudaStream_t stream) {
  return launch(warp_operations_kernel, dim3(1), dim3(32), 0, stream, out);
}
cudaError_t places(unsigned* out, dim3 grid, dim3 block, cudaStream_t stream) {
  return launch(places_kernel, grid, block, 0, stream, out);
}
cudaError_t polynomial(Coefficients coefficients, const float* x, float* y, unsigned num,
                       cudaStream_t stream) {
  return launch(polynomial_kernel, dim3(blocks_for(num)), dim3(128), 0, stream, coefficients, x, y, num);
}
cudaError_t nothing(dim3 grid, dim3 block, std::size_t dynamic_bytes, cudaStream_t stream) {
  return launch(nothing_kernel, grid, block, dynamic_bytes, stream);
}
cudaError_t allow_dynamic_shared_of_nothing(int num_bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(nothing_kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, num_bytes);
}

cudaError_t broken_kernel(Bug bug, float* out, cudaStream_t stream) {
  const auto start = [&](void (*kernel)(float*)) {
    return launch(kernel, dim3(1), dim3(64), 256, stream, out);
  };
  switch (bug) {
    case Bug::kMissingBarrier:
      return launch(reverse_kernel, dim3(1), dim3(64), 0, stream, out, out + 64, false);
    case Bug::kDivergentBarrier:
      return start(divergent_barrier);
    case Bug::kBarrierAfterExit:
      return start(barrier_after_exit);
    case Bug::kBarrierAgainstWarp:
      return start(barrier_against_warp);
    case Bug::kLostWarpMate:
      return start(lost_warp_mate);
    case Bug::kMaskWithoutCaller:
      return start(mask_without_caller);
    case Bug::kOverlappingMasks:
      return start(overlapping_masks);
    case Bug::kDifferentShuffles:
      return start(different_shuffles);
    case Bug::kDynamicOverflow:
      return start(dynamic_overflow);
    case Bug::kUninitialisedStatic:
      return start(uninitialised_static);
    case Bug::kUninitialisedDynamic:
      return start(uninitialised_dynamic);
    case Bug::kAbsentSource:
      return start(absent_source);
    case Bug::kTrap:
      return start(trap);
  }
  return cudaErrorInvalidValue;
}

cudaError_t blocks_depend(float* out, unsigned num_blocks, cudaStream_t stream) {
  return launch(blocks_depend_kernel, dim3(num_blocks), dim3(1), 0, stream, out);
}

cudaError_t launch_unbound(cudaStream_t stream) {
  static const char not_a_kernel = 0;
  return cudaLaunchKernel(&not_a_kernel, dim3(1), dim3(1), nullptr, 0, stream);
}

}  // namespace takt::emulated::test
