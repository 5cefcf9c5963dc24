// Copies between tensors on the device whose runs of bytes do not lie side by side: slices, stacks, pieces of ranks.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/device/axis_bytes.h"

namespace takt::cuda {

// `num_runs` runs of `run_bytes` bytes; the next run of x starts x_pitch bytes after the last, that of y y_pitch.
struct RunCopy {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t x_pitch = 0, y_pitch = 0;
  std::int64_t run_bytes = 0, num_runs = 0;
};

// Queues the copy. Nothing is done for empty runs. x and y must not overlap.
void copy_runs(const RunCopy& copy, cudaStream_t stream);

// Queues the copy of `count` elements along the axis, from number `from` of x to number `to` of y.
void copy_slices(const void* x, const AxisBytes& x_view, std::int64_t from, void* y, const AxisBytes& y_view,
                 std::int64_t to, std::int64_t count, cudaStream_t stream);

// Queues the cut of x into one piece a rank along the axis, `stride` bytes from one to the next; what lies past its end
// becomes zeros.
void cut_pieces(const void* x, const AxisBytes& whole, const AxisBytes& piece, std::int64_t ranks,
                std::int64_t stride, void* pieces, cudaStream_t stream);
// The opposite; padding is left out.
void join_pieces(const void* pieces, const AxisBytes& piece, std::int64_t stride, void* y,
                 const AxisBytes& whole, std::int64_t ranks, cudaStream_t stream);

}  // namespace takt::cuda
