// The conversions on GPUs: conversion_kernels.h, all on the stream of the call.
//
// bf16 is reduced by NCCL as bf16: half the traffic, one rounding a hop. Sums that must keep f32 (accumulators) are f32.
#include "core/device/cuda/copy.h"
#include "core/device/cuda/error.h"
#include "core/ops/conversion_kernels.h"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

struct Gpu {
  static cudaStream_t stream_of(StreamHandle stream) { return static_cast<cudaStream_t>(stream); }
  static void copy(const void* x, void* y, std::size_t num_bytes, StreamHandle stream) {
    TAKT_CUDA(cudaMemcpyAsync(y, x, num_bytes, cudaMemcpyDeviceToDevice, stream_of(stream)));
  }
  static void clear(void* y, std::size_t num_bytes, StreamHandle stream) {
    TAKT_CUDA(cudaMemsetAsync(y, 0, num_bytes, stream_of(stream)));
  }
  static void slice(const void* x, const AxisBytes& x_view, std::int64_t from, void* y,
                    const AxisBytes& y_view, std::int64_t count, StreamHandle stream) {
    copy_slices(x, x_view, from, y, y_view, 0, count, stream_of(stream));
  }
  static void cut(const void* x, const WholeAndPiece& v, void* pieces, StreamHandle stream) {
    cut_pieces(x, v.whole, v.piece, v.ranks, v.stride, pieces, stream_of(stream));
  }
  static void join(const void* pieces, const WholeAndPiece& v, void* y, StreamHandle stream) {
    join_pieces(pieces, v.piece, v.stride, y, v.whole, v.ranks, stream_of(stream));
  }
};

}  // namespace

DeviceKernel all_reduce() {
  return {.prepare = all_reduce_kernel<Gpu>, .bf16 = true};
}

DeviceKernel all_gather() {
  return {.prepare = all_gather_kernel<Gpu>, .scratch_bytes = gather_scratch, .bf16 = true};
}

DeviceKernel reduce_scatter() {
  return {.prepare = reduce_scatter_kernel<Gpu>, .scratch_bytes = scatter_scratch, .bf16 = true};
}

DeviceKernel all_to_all() {
  return {.prepare = all_to_all_kernel<Gpu>, .scratch_bytes = exchange_scratch, .bf16 = true};
}

DeviceKernel local_slice() {
  return {.prepare = local_slice_kernel<Gpu>, .bf16 = true};
}

DeviceKernel keep_on_first() {
  return {.prepare = keep_on_first_kernel<Gpu>, .bf16 = true};
}

DeviceKernel done() {
  return {.prepare = done_kernel, .bf16 = true};
}

}  // namespace takt::cuda
