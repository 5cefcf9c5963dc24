// One thread moves one unit: the longest power of two up to 16 bytes that divides runs, pitches and addresses. Units of
// all runs are numbered through, so that short runs fill warps as well as long ones. Copies of one run, or of runs that lie
// side by side on both sides, are left to the copy engine's cudaMemcpyAsync.
#include "core/device/cuda/copy.h"

#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"

namespace takt::cuda {
namespace {

// Index is 32 bits where that holds every unit: 64-bit divisions would cost more than the copy. Lengths are in units.
template <class Unit, class Index>
__global__ void __launch_bounds__(kBlockThreads)
    copy_units(const Unit* x, Unit* y, std::int64_t x_pitch, std::int64_t y_pitch, Index run,
               Index num_units) {
  const Index step = static_cast<Index>(gridDim.x) * blockDim.x;
  for (Index unit = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; unit < num_units;
       unit += step) {
    const Index number = unit / run, at = unit - number * run;
    y[number * y_pitch + at] = x[number * x_pitch + at];
  }
}

template <class Unit>
void launch_copy(const RunCopy& c, cudaStream_t stream) {
  constexpr std::int64_t kBytes = sizeof(Unit);
  const std::int64_t run = c.run_bytes / kBytes, num_units = run * c.num_runs;
  const auto with_index = [&](auto index) {
    launch(copy_units<Unit, decltype(index)>, dim3(strided_blocks(num_units)), dim3(kBlockThreads), 0, stream,
           static_cast<const Unit*>(c.x), static_cast<Unit*>(c.y), c.x_pitch / kBytes, c.y_pitch / kBytes,
           run, num_units);
  };
  num_units < std::int64_t{1} << 31 ? with_index(std::uint32_t{}) : with_index(std::int64_t{});
}

}  // namespace

void copy_runs(const RunCopy& c, cudaStream_t stream) {
  if (c.run_bytes <= 0 || c.num_runs <= 0) return;
  if (c.num_runs == 1 || (c.x_pitch == c.run_bytes && c.y_pitch == c.run_bytes)) {
    TAKT_CUDA(cudaMemcpyAsync(c.y, c.x, static_cast<std::size_t>(c.run_bytes * c.num_runs),
                              cudaMemcpyDeviceToDevice, stream));
    return;
  }
  const std::uint64_t bits = reinterpret_cast<std::uintptr_t>(c.x) | reinterpret_cast<std::uintptr_t>(c.y) |
                             static_cast<std::uint64_t>(c.x_pitch | c.y_pitch | c.run_bytes);
  if (bits % 16 == 0)
    launch_copy<uint4>(c, stream);
  else if (bits % 8 == 0)
    launch_copy<uint2>(c, stream);
  else if (bits % 4 == 0)
    launch_copy<std::uint32_t>(c, stream);
  else if (bits % 2 == 0)
    launch_copy<std::uint16_t>(c, stream);
  else
    launch_copy<std::uint8_t>(c, stream);
}

void copy_slices(const void* x, const AxisBytes& x_view, std::int64_t from, void* y, const AxisBytes& y_view,
                 std::int64_t to, std::int64_t count, cudaStream_t stream) {
  copy_runs({.x = static_cast<const std::byte*>(x) + from * x_view.inner,
             .y = static_cast<std::byte*>(y) + to * y_view.inner,
             .x_pitch = x_view.extent * x_view.inner,
             .y_pitch = y_view.extent * y_view.inner,
             .run_bytes = count * x_view.inner,
             .num_runs = x_view.outer},
            stream);
}

void cut_pieces(const void* x, const AxisBytes& whole, const AxisBytes& piece, std::int64_t ranks,
                std::int64_t stride, void* pieces, cudaStream_t stream) {
  auto* y = static_cast<std::byte*>(pieces);
  for (std::int64_t r = 0; r < ranks; ++r, y += stride) {
    const std::int64_t count = std::clamp<std::int64_t>(whole.extent - r * piece.extent, 0, piece.extent);
    if (count < piece.extent)
      TAKT_CUDA(cudaMemsetAsync(y, 0, static_cast<std::size_t>(piece.num_bytes()), stream));
    copy_slices(x, whole, r * piece.extent, y, piece, 0, count, stream);
  }
}

void join_pieces(const void* pieces, const AxisBytes& piece, std::int64_t stride, void* y,
                 const AxisBytes& whole, std::int64_t ranks, cudaStream_t stream) {
  const auto* x = static_cast<const std::byte*>(pieces);
  for (std::int64_t r = 0; r < ranks; ++r, x += stride) {
    const std::int64_t count = std::clamp<std::int64_t>(whole.extent - r * piece.extent, 0, piece.extent);
    copy_slices(x, piece, 0, y, whole, r * piece.extent, count, stream);
  }
}

}  // namespace takt::cuda
