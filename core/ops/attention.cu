// attention and its gradient in plain f32 arithmetic, for what cuDNN does not take: f32, odd widths, uneven groups.
//
// Tiles     64 queries by 64 keys, 256 threads of 4 x 4 scores each; rows pass through shared memory 32 columns at a time,
//           so that any width fits into 33 KiB.
// Slices    a block makes 128 columns of its outputs and keeps them in registers; wider heads compute scores once a slice.
// Gradient  dq by blocks of queries, dk and dv by blocks of keys, over the query heads of the group in order: scores are
//           computed twice, and no sum depends on the order in which blocks run.
// Cost      a thread reads 8 values from shared memory for 16 products, so that reads and not arithmetic set the pace. Heads
//           narrower than 128 leave part of the registers idle.
// Source    Dao et al. 2022, arXiv:2205.14135.
#include <cmath>

#include "core/device/cuda/grid.h"
#include "core/device/cuda/launch.h"
#include "core/device/cuda/row_group.cuh"
#include "core/ops/attention_cuda.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/row_dot.cuh"

namespace takt::cuda {
namespace {

constexpr int kTile = 64;                  // queries or keys
constexpr int kChunk = 32;                 // columns of a head in shared memory
constexpr int kLanes = 16;                 // threads of a block along either side of a tile
constexpr int kEach = kTile / kLanes;      // rows of a thread, and scores of each
constexpr int kSlice = 128;                // columns of a block's outputs
constexpr int kColumns = kSlice / kLanes;  // of a thread

struct Sizes {
  int seq, heads, kv_heads, width;
  int group, first_head, first_kv_head;
  float scale;

  __device__ __forceinline__ int kv_head(int head) const {
    return (first_head + head) / group - first_kv_head;
  }
};

// One head: position p begins at first + p * stride.
template <class T>
struct Head {
  T* first;
  std::int64_t stride;
};
template <class T>
__device__ __forceinline__ Head<T> head_of(T* x, const Sizes& z, int heads, int sample, int head) {
  const std::int64_t stride = static_cast<std::int64_t>(heads) * z.width;
  return {x + sample * z.seq * stride + static_cast<std::int64_t>(head) * z.width, stride};
}

// One column more than is used: neighbours in a column lie in different banks.
struct Tiles {
  float a[kTile][kChunk + 1], b[kTile][kChunk + 1];
  float scores[kTile][kTile + 1];
};

// Rows and columns outside of the head are zero. Neighbours of a warp read neighbours of a row.
template <class T>
__device__ __forceinline__ void load_chunk(float (&tile)[kTile][kChunk + 1], const Head<const T>& x,
                                           const Sizes& z, int row0, int column0) {
  const int thread = static_cast<int>(threadIdx.y * kLanes + threadIdx.x);
  const int column = column0 + thread % kChunk;
  for (int r = thread / kChunk; r < kTile; r += kLanes * kLanes / kChunk) {
    const bool inside = row0 + r < z.seq && column < z.width;
    tile[r][thread % kChunk] = inside ? to_float(x.first[(row0 + r) * x.stride + column]) : 0.0f;
  }
}

// products[i][j] = a[row] . b[column], rows threadIdx.y + 16 i from a0, columns threadIdx.x + 16 j from b0.
template <class T>
__device__ __forceinline__ void multiply_rows(Tiles& t, const Sizes& z, const Head<const T>& a, int a0,
                                              const Head<const T>& b, int b0,
                                              float (&products)[kEach][kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) products[i][j] = 0;
  for (int column = 0; column < z.width; column += kChunk) {
    load_chunk(t.a, a, z, a0, column);
    load_chunk(t.b, b, z, b0, column);
    __syncthreads();
    for (int c = 0; c < kChunk; ++c) {
      float of_a[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) of_a[i] = t.a[threadIdx.y + i * kLanes][c];
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const float of_b = t.b[threadIdx.x + j * kLanes][c];
#pragma unroll
        for (int i = 0; i < kEach; ++i) products[i][j] += of_a[i] * of_b;
      }
    }
    __syncthreads();
  }
}

__device__ __forceinline__ void store_scores(Tiles& t, const float (&scores)[kEach][kEach]) {
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j)
      t.scores[threadIdx.y + i * kLanes][threadIdx.x + j * kLanes] = scores[i][j];
}

// sums += scores x, or scores^T x, for the slice of x's columns that begins at column0. Ends with a barrier, after which
// scores may be overwritten; what was stored before it needs none.
template <bool kTransposed, class T>
__device__ __forceinline__ void add_product(Tiles& t, const Sizes& z, const Head<const T>& x, int x0,
                                            int column0, float (&sums)[kEach][kColumns]) {
#pragma unroll
  for (int part = 0; part < kSlice / kChunk; ++part) {
    if (column0 + part * kChunk >= z.width) continue;  // the same in all threads
    load_chunk(t.b, x, z, x0, column0 + part * kChunk);
    __syncthreads();
    for (int k = 0; k < kTile; ++k) {
      float values[kChunk / kLanes];
#pragma unroll
      for (int j = 0; j < kChunk / kLanes; ++j) values[j] = t.b[k][threadIdx.x + j * kLanes];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int row = static_cast<int>(threadIdx.y) + i * kLanes;
        const float score = kTransposed ? t.scores[k][row] : t.scores[row][k];
#pragma unroll
        for (int j = 0; j < kChunk / kLanes; ++j) sums[i][part * (kChunk / kLanes) + j] += score * values[j];
      }
    }
    __syncthreads();
  }
}

template <class T>
__device__ __forceinline__ void store_rows(const Head<T>& y, const Sizes& z, int row0, int column0,
                                           const float (&values)[kEach][kColumns]) {
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int row = row0 + static_cast<int>(threadIdx.y) + i * kLanes;
      const int column = column0 + static_cast<int>(threadIdx.x) + c * kLanes;
      if (row < z.seq && column < z.width) y.first[row * y.stride + column] = stored<T>(values[i][c]);
    }
}

// Over the 16 threads that share rows; every one of them gets it.
template <class Op>
__device__ __forceinline__ float over_lanes(float x, const Op& op) {
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    x = op(x, __shfl_xor_sync(0xFFFFFFFFu, x, distance));
  return x;
}

// What a block works on: the grid counts slices first, then heads, then samples, then tiles.
struct Place {
  int slice0, head, sample, tile;
};
__device__ __forceinline__ Place place_of_block(const Sizes& z, int heads, int batch) {
  const int slices = (z.width + kSlice - 1) / kSlice;
  int rest = static_cast<int>(blockIdx.x);
  Place place;
  place.slice0 = rest % slices * kSlice;
  place.head = (rest /= slices) % heads;
  place.sample = (rest /= heads) % batch;
  place.tile = rest / batch;
  return place;
}

// The running maximum and sum of a thread's rows.
struct RowState {
  float max[kEach], sum[kEach];
};

// Scores become exponentials below the new maximum; what was summed before is scaled to it. Key 0 is visible to every
// row, so that the maximum is finite from the first tile on.
__device__ __forceinline__ void online_softmax(const Sizes& z, int i0, int j0, float (&scores)[kEach][kEach],
                                               RowState& state, float (&y)[kEach][kColumns]) {
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int row = i0 + static_cast<int>(threadIdx.y) + i * kLanes;
    float max = state.max[i], sum = 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int key = j0 + static_cast<int>(threadIdx.x) + j * kLanes;
      scores[i][j] = key <= row && key < z.seq ? scores[i][j] * z.scale : -INFINITY;
      max = fmaxf(max, scores[i][j]);
    }
    max = over_lanes(max, Max());
#pragma unroll
    for (int j = 0; j < kEach; ++j) sum += scores[i][j] = expf(scores[i][j] - max);
    const float before = expf(state.max[i] - max);
    state.sum[i] = state.sum[i] * before + over_lanes(sum, Sum());
    state.max[i] = max;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) y[i][c] *= before;
  }
}

template <class T>
__global__ void __launch_bounds__(kLanes* kLanes)
    attention_rows(Sizes z, int batch, const T* q, const T* k, const T* v, T* y, float* lse) {
  __shared__ Tiles t;
  const Place place = place_of_block(z, z.heads, batch);
  const int i0 = (z.seq - 1) / kTile * kTile - place.tile * kTile;  // the tiles with the most keys first
  const Head<const T> queries = head_of(q, z, z.heads, place.sample, place.head);
  const Head<const T> keys = head_of(k, z, z.kv_heads, place.sample, z.kv_head(place.head));
  const Head<const T> values = head_of(v, z, z.kv_heads, place.sample, z.kv_head(place.head));
  RowState state;
  float sums[kEach][kColumns] = {};
#pragma unroll
  for (int i = 0; i < kEach; ++i) state.max[i] = -INFINITY, state.sum[i] = 0;
  for (int j0 = 0; j0 <= i0; j0 += kTile) {
    float scores[kEach][kEach];
    multiply_rows(t, z, queries, i0, keys, j0, scores);
    online_softmax(z, i0, j0, scores, state, sums);
    store_scores(t, scores);
    add_product<false>(t, z, values, j0, place.slice0, sums);
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[i][c] /= state.sum[i];
    const int row = i0 + static_cast<int>(threadIdx.y) + i * kLanes;
    if (threadIdx.x == 0 && place.slice0 == 0 && row < z.seq)
      lse[(static_cast<std::int64_t>(place.sample) * z.seq + row) * z.heads + place.head] =
          state.max[i] + logf(state.sum[i]);
  }
  store_rows(head_of(y, z, z.heads, place.sample, place.head), z, i0, place.slice0, sums);
}

// d[row] = y[row] . dy[row]
template <int kThreads, int kWidth, class T>
__global__ void __launch_bounds__(kBlockThreads)
    row_products(std::int64_t num_rows, int width, const T* y, const T* dy, float* d) {
  const std::int64_t row = row_of_thread();
  if (row >= num_rows) return;
  const float dot = row_dot<kThreads, kWidth>(width, y + row * width, dy + row * width);
  if (threadIdx.x == 0) d[row] = dot;
}

template <class T>
struct GradInputs {
  const T *dy, *q, *k, *v;
  const float *lse, *d;
};

// The heads and row statistics of one query head.
template <class T>
struct QueryHead {
  Head<const T> q, dy, k, v;
  const float *lse, *d;  // a row's number times z.heads

  __device__ __forceinline__ QueryHead(const Sizes& z, const GradInputs<T>& in, int sample, int head)
      : q(head_of(in.q, z, z.heads, sample, head)),
        dy(head_of(in.dy, z, z.heads, sample, head)),
        k(head_of(in.k, z, z.kv_heads, sample, z.kv_head(head))),
        v(head_of(in.v, z, z.kv_heads, sample, z.kv_head(head))),
        lse(in.lse + static_cast<std::int64_t>(sample) * z.seq * z.heads + head),
        d(in.d + static_cast<std::int64_t>(sample) * z.seq * z.heads + head) {}
};

// P and dS = s P (dy v^T - D) of one tile.
template <class T>
__device__ __forceinline__ void score_grads(Tiles& t, const Sizes& z, const QueryHead<T>& head, int i0,
                                            int j0, float (&p)[kEach][kEach], float (&ds)[kEach][kEach]) {
  multiply_rows(t, z, head.q, i0, head.k, j0, p);
  multiply_rows(t, z, head.dy, i0, head.v, j0, ds);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int row = i0 + static_cast<int>(threadIdx.y) + i * kLanes;
    const std::int64_t at = static_cast<std::int64_t>(row) * z.heads;
    const float lse = row < z.seq ? head.lse[at] : 0, d = row < z.seq ? head.d[at] : 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int key = j0 + static_cast<int>(threadIdx.x) + j * kLanes;
      const bool visible = key <= row && row < z.seq;
      p[i][j] = visible ? expf(p[i][j] * z.scale - lse) : 0;
      ds[i][j] = visible ? p[i][j] * (ds[i][j] - d) * z.scale : 0;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kLanes* kLanes) attention_dq(Sizes z, int batch, GradInputs<T> in, T* dq) {
  __shared__ Tiles t;
  const Place place = place_of_block(z, z.heads, batch);
  const int i0 = (z.seq - 1) / kTile * kTile - place.tile * kTile;
  const QueryHead<T> head(z, in, place.sample, place.head);
  float sums[kEach][kColumns] = {};
  for (int j0 = 0; j0 <= i0; j0 += kTile) {
    float p[kEach][kEach], ds[kEach][kEach];
    score_grads(t, z, head, i0, j0, p, ds);
    store_scores(t, ds);
    add_product<false>(t, z, head.k, j0, place.slice0, sums);
  }
  store_rows(head_of(dq, z, z.heads, place.sample, place.head), z, i0, place.slice0, sums);
}

template <class T>
__global__ void __launch_bounds__(kLanes* kLanes)
    attention_dk_dv(Sizes z, int batch, GradInputs<T> in, T* dk, T* dv) {
  __shared__ Tiles t;
  const Place place = place_of_block(z, z.kv_heads, batch);
  const int j0 = place.tile * kTile;
  float dk_sums[kEach][kColumns] = {}, dv_sums[kEach][kColumns] = {};
  for (int h = 0; h < z.heads; ++h) {
    if (z.kv_head(h) != place.head) continue;  // the same in all threads
    const QueryHead<T> head(z, in, place.sample, h);
    for (int i0 = j0; i0 < z.seq; i0 += kTile) {
      float p[kEach][kEach], ds[kEach][kEach];
      score_grads(t, z, head, i0, j0, p, ds);
      store_scores(t, p);
      add_product<true>(t, z, head.dy, i0, place.slice0, dv_sums);
      store_scores(t, ds);
      add_product<true>(t, z, head.q, i0, place.slice0, dk_sums);
    }
  }
  store_rows(head_of(dk, z, z.kv_heads, place.sample, place.head), z, j0, place.slice0, dk_sums);
  store_rows(head_of(dv, z, z.kv_heads, place.sample, place.head), z, j0, place.slice0, dv_sums);
}

Sizes sizes_of(const AttentionShape& s) {
  for (const std::int64_t extent : {s.batch, s.seq, s.heads, s.width, s.first_head + s.heads})
    TAKT_ASSERT(extent >= 1 && extent <= 0x3FFFFFFF, "attention: ", extent,
                " is counted in 32 bits on the device");
  const auto narrow = [](std::int64_t extent) { return static_cast<int>(extent); };
  return {narrow(s.seq),           narrow(s.heads),
          narrow(s.kv_heads),      narrow(s.width),
          narrow(s.group),         narrow(s.first_head),
          narrow(s.first_kv_head), 1.0f / std::sqrt(static_cast<float>(s.width))};
}

dim3 grid_of(const AttentionShape& s, std::int64_t heads) {
  return dim3(blocks_of(divide_up(s.width, kSlice) * heads * s.batch * divide_up(s.seq, kTile)));
}

template <class T>
void launch_grad(const AttentionShape& s, const KernelArgs& k) {
  const auto stream = static_cast<cudaStream_t>(k.stream);
  const dim3 block(kLanes, kLanes);
  const Sizes z = sizes_of(s);
  const int batch = static_cast<int>(s.batch);
  const T *dy = k.input<T>(0), *y = k.input<T>(4);
  float* d = static_cast<float*>(k.scratch);
  launch_rows<kPackWidth<T>>(
      [](auto threads, auto width) { return row_products<threads.value, width.value, T>; },
      RowShape{s.batch * s.seq * s.heads, s.width}, k.stream, y, dy, d);
  const GradInputs<T> in{dy, k.input<T>(1), k.input<T>(2), k.input<T>(3), k.input<float>(5), d};
  launch(attention_dq<T>, grid_of(s, s.heads), block, 0, stream, z, batch, in, k.output<T>(0));
  launch(attention_dk_dv<T>, grid_of(s, s.kv_heads), block, 0, stream, z, batch, in, k.output<T>(1),
         k.output<T>(2));
}

}  // namespace

Kernel own_attention(const AttentionShape& shape, DType dtype) {
  return with_floating(dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return [shape](const KernelArgs& k) {
      launch(attention_rows<T>, grid_of(shape, shape.heads), dim3(kLanes, kLanes), 0,
             static_cast<cudaStream_t>(k.stream), sizes_of(shape), static_cast<int>(shape.batch),
             k.input<T>(0), k.input<T>(1), k.input<T>(2), k.output<T>(0), k.output<float>(1));
    };
  });
}

Kernel own_attention_grad(const AttentionShape& shape, DType dtype) {
  return with_floating(dtype, [&](auto type) -> Kernel {
    return [shape](const KernelArgs& k) { launch_grad<decltype(type)>(shape, k); };
  });
}

std::size_t own_attention_grad_scratch_bytes(const AttentionShape& shape) {
  return static_cast<std::size_t>(shape.batch * shape.seq * shape.heads) * sizeof(float);
}

}  // namespace takt::cuda
