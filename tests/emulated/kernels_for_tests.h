// Kernels that only the emulator's own tests launch: some right, some broken on purpose.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

namespace takt::emulated::test {

// ---- Right ----

// y += a * x
cudaError_t axpy(float a, const float* x, float* y, unsigned num, cudaStream_t stream);
// sums[r] = sum of row r: shuffles within warps, static shared memory between them. One block of `num_threads` a row.
cudaError_t sum_rows(const float* x, float* sums, unsigned rows, unsigned cols, unsigned num_threads,
                     cudaStream_t stream);
// Each row with exp(x - max) / sum; a row lies in dynamic shared memory.
cudaError_t softmax_rows(const float* x, float* y, unsigned rows, unsigned cols, cudaStream_t stream);
// c[n, n] = a[n, n] b[n, n], by 16 x 16 tiles in static shared memory.
cudaError_t matmul(const float* a, const float* b, float* c, unsigned n, cudaStream_t stream);
// counts[x[i]] += 1
cudaError_t histogram(const int* x, int* counts, unsigned num, cudaStream_t stream);
// y = x reversed, blockwise of 256, through static shared memory.
cudaError_t reverse_blocks(const float* x, float* y, unsigned num_blocks, cudaStream_t stream);
// y = bf16(x) * scale, and the sum of all by atomics.
cudaError_t scale_bf16(const float* x, __nv_bfloat16* y, float* sum, float scale, unsigned num,
                       cudaStream_t stream);
// out[0..31] of one warp: 0 shfl_up, 1 shfl_down of width 8, 2 xor, 3 ballot, 4 reduce_add, 5 any, all, count of a block
cudaError_t warp_operations(unsigned* out, cudaStream_t stream);
// out[i] = the place of thread i in grid and block, as one number
cudaError_t places(unsigned* out, dim3 grid, dim3 block, cudaStream_t stream);
// As large a parameter as kernels have.
struct Coefficients {
  float values[16] = {};
};
cudaError_t polynomial(Coefficients coefficients, const float* x, float* y, unsigned num,
                       cudaStream_t stream);
// A launch of any size that does nothing.
cudaError_t nothing(dim3 grid, dim3 block, std::size_t dynamic_bytes, cudaStream_t stream);
cudaError_t allow_dynamic_shared_of_nothing(int num_bytes);

// ---- Broken; each is one block of 64 threads that writes out[0..63] ----

enum class Bug {
  kMissingBarrier,
  kDivergentBarrier,
  kBarrierAfterExit,
  kBarrierAgainstWarp,
  kLostWarpMate,
  kMaskWithoutCaller,
  kOverlappingMasks,
  kDifferentShuffles,
  kDynamicOverflow,
  kUninitialisedStatic,
  kUninitialisedDynamic,
  kAbsentSource,
  kTrap,
};
cudaError_t broken_kernel(Bug bug, float* out, cudaStream_t stream);

// Blocks that read what another block of the grid wrote: right in one order only.
cudaError_t blocks_depend(float* out, unsigned num_blocks, cudaStream_t stream);

// A kernel that bind() was not told of.
cudaError_t launch_unbound(cudaStream_t stream);

}  // namespace takt::emulated::test
