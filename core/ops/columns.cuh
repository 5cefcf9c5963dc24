// Sums and maxima over columns: y[o, c] = op over rows r of value(o, r, c), for [outer, rows, columns].
//
// Two kernels. The first gives each block 32 packs of columns and a chunk of rows: each of its eight warps takes every
// eighth row, the warps are joined in order, and the chunk's result goes to scratch in f32. The second joins a column's
// chunks, sums in double. A thread adds up to a few hundred numbers in f32. The number of chunks, and with it every order,
// depends on the shape only: the same bits in every run and on every GPU.
// Traffic   the values once, in runs of 512 bytes a warp; scratch holds at most a 64th of them.
#pragma once

#include "core/device/cuda/row_group.cuh"

namespace takt::cuda {

struct ColumnPlan {
  std::int64_t outer = 1, rows = 1, columns = 1;
  std::int64_t rows_per_chunk = 1;
  int num_chunks = 1;

  // `shortest_chunk`: rows below which a chunk is not worth its block.
  static ColumnPlan of(std::int64_t outer, std::int64_t rows, std::int64_t columns,
                       std::int64_t shortest_chunk = 64) {
    constexpr std::int64_t kEnoughBlocks = 2048, kMostChunks = 128, kColumnsABlock = 32 * kPackWidth<float>;
    const std::int64_t blocks = outer * divide_up(columns, kColumnsABlock);
    const std::int64_t wanted = std::min(divide_up(kEnoughBlocks, blocks), divide_up(rows, shortest_chunk));
    ColumnPlan plan{.outer = outer, .rows = rows, .columns = columns};
    plan.set_chunks(divide_up(rows, std::min(wanted, kMostChunks)));
    return plan;
  }
  void set_chunks(std::int64_t rows_each) {
    rows_per_chunk = rows_each;
    num_chunks = static_cast<int>(divide_up(rows, rows_each));
  }
  // The f32 numbers of one result that the chunks leave: [outer, chunks, columns].
  __host__ __device__ std::int64_t num_partials() const { return outer * num_chunks * columns; }
  std::size_t scratch_bytes(int num_results = 1) const {
    return static_cast<std::size_t>(num_results * num_partials()) * sizeof(float);
  }
};

// Joins what the eight warps of a block have of 32 packs of columns and calls f(column of the block, total).
template <int kWidth, class Op, class F>
__device__ __forceinline__ void join_warps(const float (&values)[kWidth], const Op& op, const F& f) {
  constexpr int kWarps = kBlockThreads / 32;
  __shared__ float of_warps[kWarps][32 * kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) of_warps[threadIdx.y][threadIdx.x * kWidth + i] = values[i];
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * 32 + threadIdx.x);
  if (thread < 32 * kWidth) {
    float total = of_warps[0][thread];
#pragma unroll
    for (int warp = 1; warp < kWarps; ++warp) total = op(total, of_warps[warp][thread]);
    f(thread, total);
  }
  __syncthreads();  // the next result writes again
}

// A chunk of rows of 32 packs of columns. `values_of` loads the numbers that are added up, kResults of them:
//   template <int kWidth> void operator()(o, row, column, float (&values)[kResults][kWidth]) const
// and says of a row by exists(row) whether it counts.
template <int kWidth, class Values, class Op>
__global__ void __launch_bounds__(kBlockThreads)
    reduce_chunk(Values values_of, Op op, ColumnPlan plan, std::int64_t column_blocks, float* partials) {
  static_assert(32 * kWidth <= kBlockThreads);
  const std::int64_t o = blockIdx.x / column_blocks, chunk = blockIdx.y;
  const std::int64_t first_column = blockIdx.x % column_blocks * 32 * kWidth,
                     column = first_column + threadIdx.x * kWidth;
  const std::int64_t first = chunk * plan.rows_per_chunk, end = first + plan.rows_per_chunk,
                     last = end < plan.rows ? end : plan.rows;
  float results[Values::kResults][kWidth], values[Values::kResults][kWidth];
#pragma unroll
  for (int s = 0; s < Values::kResults; ++s)
#pragma unroll
    for (int i = 0; i < kWidth; ++i) results[s][i] = Op::kStart;
  for (std::int64_t row = first + threadIdx.y; column < plan.columns && row < last; row += blockDim.y) {
    if (!values_of.exists(row)) continue;
    values_of(o, row, column, values);
#pragma unroll
    for (int s = 0; s < Values::kResults; ++s)
#pragma unroll
      for (int i = 0; i < kWidth; ++i) results[s][i] = op(results[s][i], values[s][i]);
  }
#pragma unroll
  for (int s = 0; s < Values::kResults; ++s)
    join_warps(results[s], op, [&](int at, float total) {
      if (first_column + at < plan.columns)
        partials[s * plan.num_partials() + (o * plan.num_chunks + chunk) * plan.columns + first_column + at] =
            total;
    });
}

// One thread an element of y [outer, columns].
template <class Out, class Op>
__global__ void __launch_bounds__(kBlockThreads)
    join_chunks(const float* partials, Out* y, Op op, ColumnPlan plan) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  std::int64_t element = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; element < plan.outer * plan.columns; element += step) {
    const float* x =
        partials + element / plan.columns * plan.num_chunks * plan.columns + element % plan.columns;
    typename Op::Wide total = *x;
    for (int chunk = 1; chunk < plan.num_chunks; ++chunk)
      total = op(total, static_cast<typename Op::Wide>(x[chunk * plan.columns]));
    y[element] = stored<Out>(static_cast<float>(total));
  }
}

template <class Out, class Op>
void launch_join_chunks(const ColumnPlan& plan, const Op& op, const float* partials, Out* y, void* stream) {
  launch(join_chunks<Out, Op>, dim3(strided_blocks(plan.outer * plan.columns)), dim3(kBlockThreads), 0,
         static_cast<cudaStream_t>(stream), partials, y, op, plan);
}

// Queues both kernels; `results` are Values::kResults tensors, `packed` says that columns can be loaded kWidth at once.
template <int kWidth, class Values, class Op, class Out, std::size_t kResults>
void launch_columns(const Values& values_of, const Op& op, const ColumnPlan& plan, bool packed, void* scratch,
                    Out* const (&results)[kResults], void* stream) {
  static_assert(kResults == Values::kResults);
  auto* partials = static_cast<float*>(scratch);
  const std::int64_t column_blocks = divide_up(plan.columns, 32 * (packed ? kWidth : 1));
  launch(packed ? reduce_chunk<kWidth, Values, Op> : reduce_chunk<1, Values, Op>,
         dim3(blocks_of(plan.outer * column_blocks), static_cast<unsigned>(plan.num_chunks)), dim3(32, 8), 0,
         static_cast<cudaStream_t>(stream), values_of, op, plan, column_blocks, partials);
  for (std::size_t r = 0; r < kResults; ++r)
    launch_join_chunks(plan, op, partials + static_cast<std::int64_t>(r) * plan.num_partials(), results[r],
                       stream);
}

}  // namespace takt::cuda
