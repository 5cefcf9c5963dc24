// embedding: y[t, :] = table[token[t], :], zeros where this rank does not have the row;
// embedding_grad: dtable[v, :] = sum over t with token[t] = v of dy[t, :], f32, in the order of tokens
//
// Gradient  the same bits in every run, so no atomics: keys (row, position) are sorted, which brings a row's tokens
//           together in their order; then the rows that occur are added up, and all others have been filled with zeros.
// Sums      compensated f32 (Kahan), eight chains a row joined in order: as good as the CPU's double.
// Scratch   the keys, 8 bytes a token, up to the next power of two.
// Traffic   embedding: a row once read and once written. Gradient: dy once, dtable once, the keys a few times.
// Blocks    embedding: units of 16 bytes, numbered through all rows. Gradient: a block sums 32 packs of columns of one row;
//           its eight warps take every eighth token, since a frequent token has thousands. A block for each position of the
//           sorted keys: those that do not start a row leave at once.
#include "core/device/cuda/launch.h"
#include "core/device/cuda/row_group.cuh"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

// The rows of the table that this rank has.
struct TableRows {
  std::int64_t offset, num_valid;

  // The local row of a token, or -1.
  __device__ __forceinline__ std::int64_t find(std::int32_t token) const {
    const std::int64_t row = token - offset;
    return row >= 0 && row < num_valid ? row : -1;
  }
};

TableRows rows_of(const KernelNode& node, const TensorDesc& table) {
  const AxisRange range = node.range(table, table.dims[0].axis);
  return {range.offset, range.num_valid};
}

// ---- Look-up ----

template <class Unit>
__global__ void __launch_bounds__(kBlockThreads)
    look_up(const Unit* table, const std::int32_t* tokens, Unit* y, TableRows rows, std::int64_t units_a_row,
            std::int64_t num_units) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t unit = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; unit < num_units;
       unit += step) {
    const std::int64_t token = unit / units_a_row, row = rows.find(tokens[token]);
    y[unit] = row < 0 ? Unit{} : table[row * units_a_row + unit % units_a_row];
  }
}

template <class Unit>
void launch_look_up(const KernelArgs& k, const TableRows& rows, std::int64_t row_bytes,
                    std::int64_t num_tokens) {
  const std::int64_t units_a_row = row_bytes / static_cast<std::int64_t>(sizeof(Unit));
  launch(look_up<Unit>, dim3(strided_blocks(units_a_row * num_tokens)), dim3(kBlockThreads), 0,
         static_cast<cudaStream_t>(k.stream), k.input<Unit>(0), k.input<std::int32_t>(1), k.output<Unit>(0),
         rows, units_a_row, units_a_row * num_tokens);
}

Kernel prepare_look_up(const KernelNode& node) {
  const TensorDesc& table = node.input(0);
  const auto row_bytes = static_cast<std::int64_t>(table.num_bytes()) / table.dims[0].extent;
  return [row_bytes, rows = rows_of(node, table),
          num_tokens = node.input(1).num_elements()](const KernelArgs& k) {
    if (row_bytes % 16 == 0 && is_aligned(k.inputs[0]) && is_aligned(k.outputs[0]))
      launch_look_up<uint4>(k, rows, row_bytes, num_tokens);
    else
      launch_look_up<std::uint16_t>(k, rows, row_bytes, num_tokens);  // f32 and bf16 are whole ones
  };
}

// ---- Gradient: sorting ----

// A key is row << 32 | position; kNoRow stands behind all others.
using Key = unsigned long long;
constexpr Key kNoRow = ~Key{0};
constexpr int kTile = 2048;  // keys that one block sorts in shared memory, two a thread

std::int64_t num_keys_of(std::int64_t num_tokens) {
  std::int64_t num_keys = kTile;
  while (num_keys < num_tokens) num_keys *= 2;
  return num_keys;
}

// Brings keys i and j > i into ascending order, or descending where bit `run` of i is set.
__device__ __forceinline__ void order(Key& at_i, Key& at_j, std::int64_t i, std::int64_t run) {
  if ((at_i > at_j) == ((i & run) == 0)) {
    const Key key = at_i;
    at_i = at_j;
    at_j = key;
  }
}

// The `pair`-th of the pairs whose indices differ in bit `distance`: its lower index.
__device__ __forceinline__ std::int64_t lower_of(std::int64_t pair, std::int64_t distance) {
  return 2 * pair - (pair & (distance - 1));
}

// Bitonic steps of runs [first_run, last_run] inside a tile of keys, which are made from tokens if `tokens` is not null.
// Of the first run only steps that stay inside the tile are left. Source: Batcher 1968.
__global__ void __launch_bounds__(kTile / 2)
    sort_tile(Key* keys, const std::int32_t* tokens, std::int64_t num_tokens, TableRows rows,
              std::int64_t first_run, std::int64_t last_run) {
  __shared__ Key tile[kTile];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kTile;
  for (int at = static_cast<int>(threadIdx.x); at < kTile; at += kTile / 2) {
    if (tokens == nullptr) {
      tile[at] = keys[first + at];
    } else {
      const std::int64_t position = first + at,
                         row = position < num_tokens ? rows.find(tokens[position]) : -1;
      tile[at] = row < 0 ? kNoRow : static_cast<Key>(row) << 32 | static_cast<Key>(position);
    }
  }
  __syncthreads();
  for (std::int64_t run = first_run; run <= last_run; run *= 2)
    for (std::int64_t distance = run / 2 < kTile / 2 ? run / 2 : kTile / 2; distance > 0; distance /= 2) {
      const auto at = static_cast<int>(lower_of(threadIdx.x, distance));
      order(tile[at], tile[at + distance], first + at, run);
      __syncthreads();
    }
  for (int at = static_cast<int>(threadIdx.x); at < kTile; at += kTile / 2) keys[first + at] = tile[at];
}

// One bitonic step over distances that leave a tile.
__global__ void __launch_bounds__(kBlockThreads)
    sort_step(Key* keys, std::int64_t run, std::int64_t distance) {
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t at = lower_of(pair, distance);
  order(keys[at], keys[at + distance], at, run);
}

void sort_tokens(Key* keys, const std::int32_t* tokens, std::int64_t num_tokens, const TableRows& rows,
                 cudaStream_t stream) {
  const std::int64_t num_keys = num_keys_of(num_tokens);
  const dim3 tiles(blocks_of(num_keys / kTile)), threads(kTile / 2);
  launch(sort_tile, tiles, threads, 0, stream, keys, tokens, num_tokens, rows, 2, kTile);
  for (std::int64_t run = 2 * kTile; run <= num_keys; run *= 2) {
    for (std::int64_t distance = run / 2; distance >= kTile; distance /= 2)
      launch(sort_step, dim3(blocks_of(num_keys / 2 / kBlockThreads)), dim3(kBlockThreads), 0, stream, keys,
             run, distance);
    launch(sort_tile, tiles, threads, 0, stream, keys, nullptr, num_tokens, rows, run, run);
  }
}

// ---- Gradient: sums ----

// Kahan: `rest` is what rounding took from `sum`.
struct CompensatedSum {
  float sum = 0, rest = 0;
  __device__ __forceinline__ void add(float x) {
    const float y = x - rest, total = sum + y;
    rest = (total - sum) - y;
    sum = total;
  }
};

// A row's tokens start at key blockIdx.x and go on as long as keys have its row. 32 packs of columns from blockIdx.y on.
template <int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    sum_tokens(const Key* keys, std::int64_t num_tokens, const T* dy, float* table, std::int64_t width) {
  constexpr int kWarps = kBlockThreads / 32;
  __shared__ float of_warps[kWarps][32 * kWidth];
  const std::int64_t first = blockIdx.x;
  const Key row = keys[first] >> 32;
  if (keys[first] == kNoRow || (first > 0 && keys[first - 1] >> 32 == row)) return;  // the whole block
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.y) * 32 * kWidth,
                     column = first_column + threadIdx.x * kWidth;
  CompensatedSum sums[kWidth];
  for (std::int64_t at = first + threadIdx.y;
       column < width && at < num_tokens && keys[at] >> 32 == row && keys[at] != kNoRow; at += kWarps) {
    float values[kWidth];
    load(dy + static_cast<std::int64_t>(keys[at] & 0xFFFFFFFFu) * width + column, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sums[i].add(values[i]);
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) of_warps[threadIdx.y][threadIdx.x * kWidth + i] = sums[i].sum;
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * 32 + threadIdx.x);
  if (thread >= 32 * kWidth || first_column + thread >= width) return;
  CompensatedSum total;
  for (int warp = 0; warp < kWarps; ++warp) total.add(of_warps[warp][thread]);
  table[static_cast<std::int64_t>(row) * width + first_column + thread] = total.sum;
}

template <class T>
void launch_grad(const KernelArgs& k, const TableRows& rows, const Dims& table, std::int64_t num_tokens) {
  constexpr int kWidth = kPackWidth<T>;
  const auto stream = static_cast<cudaStream_t>(k.stream);
  const std::int64_t width = table[1].extent;
  auto* keys = static_cast<Key*>(k.scratch);
  const T* dy = k.input<T>(0);
  const bool packed = width % kWidth == 0 && is_aligned(dy);
  sort_tokens(keys, k.input<std::int32_t>(1), num_tokens, rows, stream);
  TAKT_CUDA(cudaMemsetAsync(k.outputs[0], 0, static_cast<std::size_t>(num_elements(table)) * sizeof(float),
                            stream));
  launch(packed ? sum_tokens<kWidth, T> : sum_tokens<1, T>,
         dim3(blocks_of(num_tokens), static_cast<unsigned>(divide_up(width, 32 * (packed ? kWidth : 1)))),
         dim3(32, kBlockThreads / 32), 0, stream, keys, num_tokens, dy, k.output<float>(0), width);
}

std::size_t scratch_grad(const KernelNode& node) {
  return static_cast<std::size_t>(num_keys_of(node.input(1).num_elements())) * sizeof(Key);
}

Kernel prepare_grad(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    return [rows = rows_of(node, node.output(0)), table = node.output(0).dims,
            num_tokens = node.input(1).num_elements()](const KernelArgs& k) {
      launch_grad<decltype(type)>(k, rows, table, num_tokens);
    };
  });
}

}  // namespace

DeviceKernel embedding() {
  return {.prepare = prepare_look_up, .bf16 = true};
}

DeviceKernel embedding_grad() {
  return {.prepare = prepare_grad, .scratch_bytes = scratch_grad, .bf16 = true};
}

}  // namespace takt::cuda
