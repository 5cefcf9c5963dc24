// Attention on the CPU: small oneDNN products over blocks of scores that stay in the cache.
//
// Forward: per block of queries, keys are walked in order; the running maximum m and sum l rescale what was
// accumulated when a larger score appears (online softmax, Milakov and Gimelshein 2018, arXiv:1805.02867).
// Backward: a key head is one task, which adds up dk and dv over the query heads of its group in a fixed order.
#include "core/ops/attention_blocks.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/device/onednn.h"
#include "core/ops/elementwise.h"
#include "core/ops/ordered_product.h"
#include "core/ops/parallel_kernel.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

constexpr std::int64_t kBlock = 64;

// Scratch of one thread: two score blocks, row statistics, and room for f32 copies of bf16 heads.
struct Scratch {
  float *scores, *grads, *max, *sum, *copies;
  Scratch(void* base, std::int64_t floats_a_thread) {
    scores = static_cast<float*>(base) + omp_get_thread_num() * floats_a_thread;
    grads = scores + kBlock * kBlock;
    max = grads + kBlock * kBlock;
    sum = max + kBlock;
    copies = sum + kBlock;
  }
  static constexpr std::int64_t kFloats = 2 * kBlock * kBlock + 2 * kBlock;  // without copies
};

std::int64_t floats_a_thread(const KernelNode& node, bool is_grad) {
  const AttentionShape s = attention_shape(node, is_grad);
  const std::int64_t sums = s.ordered && is_grad ? (1 + kMostLevels) * 2 * s.seq * s.width : 0;
  if (node.input(is_grad ? 1 : 0).dtype == DType::kF32) return Scratch::kFloats + sums;
  // Forward: a block of q and y, and k and v. Backward: q, k, v, y and their gradients.
  return Scratch::kFloats + sums + s.width * (is_grad ? 8 * s.seq : 2 * s.seq + 2 * kBlock);
}

// One head of a tensor [batch, seq, heads, width], or an f32 copy of it: elements between positions.
template <class T>
struct Head {
  T* first;
  std::int64_t stride;
  T* at(std::int64_t position) const { return first + position * stride; }
};

// f32 copies of bf16 heads, taken from `free`, which moves on; f32 heads are used where they lie.
struct Copies {
  float* free;
  std::int64_t width;

  Head<float> take(std::int64_t rows) {
    float* const first = free;
    free += rows * width;
    return {first, width};
  }
  Head<const float> widened(Head<const float> x, std::int64_t) { return x; }
  Head<const float> widened(Head<const BF16> x, std::int64_t rows) {
    const Head<float> y = take(rows);
    for (std::int64_t r = 0; r < rows; ++r) convert(x.at(r), y.at(r), width);
    return {y.first, y.stride};
  }
  // Where the results of a head are made, and their way back.
  Head<float> result(Head<float> y, std::int64_t) { return y; }
  Head<float> result(Head<BF16>, std::int64_t rows) { return take(rows); }
  void give_back(Head<float>, Head<float>, std::int64_t) const {}
  void give_back(Head<float> made, Head<BF16> y, std::int64_t rows) const {
    for (std::int64_t r = 0; r < rows; ++r) convert(made.at(r), y.at(r), width);
  }
};

// Who computes a small product.
auto* product_of(const AttentionShape& s) {
  return s.ordered ? ordered_sgemm : onednn_sgemm;
}

// One block of rows' scores against keys [j0, j0 + keys), j0 <= i0, so that every row sees a key: hides the
// future, updates max and sum, turns scores into exponentials and rescales the rows of y.
void online_softmax(float* scores, float* y, std::int64_t y_stride, const Scratch& t, std::int64_t i0,
                    std::int64_t rows, std::int64_t j0, std::int64_t keys, std::int64_t width) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * kBlock;
    const std::int64_t visible = std::min(keys, i0 + r - j0 + 1);
    float max = t.max[r];
    for (std::int64_t c = 0; c < visible; ++c) max = std::max(max, row[c]);
    float sum = 0;
    for (std::int64_t c = 0; c < visible; ++c) row[c] = exp_cephes(row[c] - max);
    for (std::int64_t c = 0; c < visible; ++c) sum += row[c];
    std::fill(row + visible, row + keys, 0.0f);
    const float old = j0 == 0 ? 0.0f : exp_cephes(t.max[r] - max);
    t.sum[r] = t.sum[r] * old + sum;
    t.max[r] = max;
    for (std::int64_t d = 0; j0 > 0 && d < width; ++d) y[r * y_stride + d] *= old;
  }
}

// The block of queries that starts at i0; q, y and lse start there, k and v at position 0.
void forward_rows(const AttentionShape& s, Head<const float> q, Head<const float> k, Head<const float> v,
                  Head<float> y, float* lse, std::int64_t i0, const Scratch& t) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.width));
  const std::int64_t rows = std::min(kBlock, s.seq - i0);
  std::fill(t.max, t.max + rows, std::numeric_limits<float>::lowest());
  std::fill(t.sum, t.sum + rows, 0.0f);
  for (std::int64_t j0 = 0; j0 < i0 + rows; j0 += kBlock) {
    const std::int64_t keys = std::min(kBlock, s.seq - j0);
    product_of(s)(false, true, rows, keys, s.width, scale, q.first, q.stride, k.at(j0), k.stride, 0.0f,
                  t.scores, kBlock);
    online_softmax(t.scores, y.first, y.stride, t, i0, rows, j0, keys, s.width);
    product_of(s)(false, false, rows, s.width, keys, 1.0f, t.scores, kBlock, v.at(j0), v.stride,
                  j0 == 0 ? 0.0f : 1.0f, y.first, y.stride);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float inverse = 1.0f / t.sum[r];
    for (std::int64_t d = 0; d < s.width; ++d) y.at(r)[d] *= inverse;
    lse[r * s.heads] = t.max[r] + std::log(t.sum[r]);
  }
}

// One query head and the key head that it uses. lse has s.heads elements between positions.
struct HeadGrads {
  Head<const float> q, k, v, dy, y;
  const float* lse;
  Head<float> dq, dk, dv;
};

// Scores become P, and dP = dy v^T becomes dS = P (dP - D).
void score_grads(const AttentionShape& s, const HeadGrads& h, const Scratch& t, std::int64_t i0,
                 std::int64_t rows, std::int64_t j0, std::int64_t keys) {
  for (std::int64_t r = 0; r < rows; ++r) {
    float *p = t.scores + r * kBlock, *ds = t.grads + r * kBlock;
    const float *y = h.y.at(i0 + r), *dy = h.dy.at(i0 + r);
    const std::int64_t visible = std::clamp<std::int64_t>(i0 + r - j0 + 1, 0, keys);
    const float log_sum = h.lse[(i0 + r) * s.heads];
    float d = 0;
    for (std::int64_t e = 0; e < s.width; ++e) d += y[e] * dy[e];
    for (std::int64_t c = 0; c < visible; ++c) p[c] = exp_cephes(p[c] - log_sum);
    for (std::int64_t c = 0; c < visible; ++c) ds[c] = p[c] * (ds[c] - d);
    std::fill(p + visible, p + keys, 0.0f);
    std::fill(ds + visible, ds + keys, 0.0f);
  }
}

// A key head and where its gradients are summed.
struct KeyHead {
  Head<const float> k, v;
  Head<float> dk, dv;
};

// All blocks of one query head; adds to dk and dv, which start at zero.
void backward_head(const AttentionShape& s, const HeadGrads& h, const Scratch& t) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.width));
  for (std::int64_t i0 = 0; i0 < s.seq; i0 += kBlock) {
    const std::int64_t rows = std::min(kBlock, s.seq - i0);
    const float *q = h.q.at(i0), *dy = h.dy.at(i0);
    for (std::int64_t j0 = 0; j0 < i0 + rows; j0 += kBlock) {
      const std::int64_t keys = std::min(kBlock, s.seq - j0);
      product_of(s)(false, true, rows, keys, s.width, scale, q, h.q.stride, h.k.at(j0), h.k.stride, 0.0f,
                    t.scores, kBlock);
      product_of(s)(false, true, rows, keys, s.width, 1.0f, dy, h.dy.stride, h.v.at(j0), h.v.stride, 0.0f,
                    t.grads, kBlock);
      score_grads(s, h, t, i0, rows, j0, keys);
      product_of(s)(true, false, keys, s.width, rows, 1.0f, t.scores, kBlock, dy, h.dy.stride, 1.0f,
                    h.dv.at(j0), h.dv.stride);
      product_of(s)(false, false, rows, s.width, keys, scale, t.grads, kBlock, h.k.at(j0), h.k.stride,
                    j0 == 0 ? 0.0f : 1.0f, h.dq.at(i0), h.dq.stride);
      product_of(s)(true, false, keys, s.width, rows, scale, t.grads, kBlock, q, h.q.stride, 1.0f,
                    h.dk.at(j0), h.dk.stride);
    }
  }
}

// One query head; adds to dk and dv. Inputs dy, q, k, v, y, lse; output dq.
template <class T>
void backward_query_head(const AttentionShape& s, const KernelArgs& args, std::int64_t b, std::int64_t h,
                         const KeyHead& key, Copies copies, const Scratch& t) {
  const std::int64_t at = s.q_at(b, 0, h), stride = s.heads * s.width;
  const auto widened = [&](std::size_t input) {
    return copies.widened(Head<const T>{args.input<T>(input) + at, stride}, s.seq);
  };
  const Head<const float> q = widened(1), dy = widened(0), y = widened(4);
  const Head<T> dq_out{args.output<T>(0) + at, stride};
  const Head<float> dq = copies.result(dq_out, s.seq);
  backward_head(s, {q, key.k, key.v, dy, y, args.input<float>(5) + at / s.width, dq, key.dk, key.dv}, t);
  copies.give_back(dq, dq_out, s.seq);
}

void clear(Head<float> head, const AttentionShape& s) {
  for (std::int64_t p = 0; p < s.seq; ++p) std::fill_n(head.at(p), s.width, 0.0f);
}

template <class T>
Head<const float> widened_keys(const AttentionShape& s, const KernelArgs& args, std::size_t input,
                               std::int64_t kv_at, Copies& copies) {
  return copies.widened(Head<const T>{args.input<T>(input) + kv_at, s.kv_heads * s.width}, s.seq);
}

// One key head of one sample, with all query heads that use it. Inputs dy, q, k, v, y, lse; outputs dq, dk, dv.
template <class T>
void backward_task(const AttentionShape& s, const KernelArgs& args, std::int64_t b, std::int64_t kv,
                   const Scratch& t) {
  const std::int64_t kv_at = s.kv_at(b, 0, kv), kv_stride = s.kv_heads * s.width;
  Copies copies{t.copies, s.width};
  const Head<T> dk_out{args.output<T>(1) + kv_at, kv_stride}, dv_out{args.output<T>(2) + kv_at, kv_stride};
  const Head<const float> k = widened_keys<T>(s, args, 2, kv_at, copies),
                          v = widened_keys<T>(s, args, 3, kv_at, copies);
  const KeyHead key{k, v, copies.result(dk_out, s.seq), copies.result(dv_out, s.seq)};
  clear(key.dk, s);
  clear(key.dv, s);
  for (std::int64_t h = 0; h < s.heads; ++h)
    if (s.kv_head(h) == kv) backward_query_head<T>(s, args, b, h, key, copies, t);
  copies.give_back(key.dk, dk_out, s.seq);
  copies.give_back(key.dv, dv_out, s.seq);
}

// The same with f32 sums over pieces of the heads, side by side for dk and dv in the thread's scratch.
template <class T>
void backward_task_ordered(const AttentionShape& s, const KernelArgs& args, std::int64_t b, std::int64_t kv,
                           const Scratch& t) {
  const std::int64_t kv_at = s.kv_at(b, 0, kv), one = s.seq * s.width, heads = s.heads / s.head_pieces;
  Copies copies{t.copies, s.width};
  float* const sums = copies.take(2 * s.seq).first;
  float* const levels = copies.take(kMostLevels * 2 * s.seq).first;
  const Head<const float> k = widened_keys<T>(s, args, 2, kv_at, copies),
                          v = widened_keys<T>(s, args, 3, kv_at, copies);
  tree_sum(0, s.head_pieces, sums, levels, 2 * one, [&](std::int64_t piece, float* to) {
    const KeyHead key{k, v, {to, s.width}, {to + one, s.width}};
    std::fill_n(to, 2 * one, 0.0f);
    for (std::int64_t h = piece * heads; h < (piece + 1) * heads; ++h)
      if (s.kv_head(h) == kv) backward_query_head<T>(s, args, b, h, key, copies, t);
  });
  for (std::int64_t p = 0; p < s.seq; ++p)
    for (const std::size_t i : {0, 1})
      std::copy_n(sums + static_cast<std::int64_t>(i) * one + p * s.width, s.width,
                  args.output<float>(1 + i) + kv_at + p * s.kv_heads * s.width);
}

// One block of queries of one head of one sample. Inputs q, k, v; outputs y, lse.
template <class T>
void forward_task(const AttentionShape& s, const KernelArgs& args, std::int64_t b, std::int64_t h,
                  std::int64_t i0, const Scratch& t) {
  const std::int64_t q_at = s.q_at(b, i0, h), q_stride = s.heads * s.width;
  const std::int64_t kv_at = s.kv_at(b, 0, s.kv_head(h)), kv_stride = s.kv_heads * s.width;
  const std::int64_t rows = std::min(kBlock, s.seq - i0);
  Copies copies{t.copies, s.width};
  const Head<const float> q = copies.widened(Head<const T>{args.input<T>(0) + q_at, q_stride}, rows),
                          k = copies.widened(Head<const T>{args.input<T>(1) + kv_at, kv_stride}, i0 + rows),
                          v = copies.widened(Head<const T>{args.input<T>(2) + kv_at, kv_stride}, i0 + rows);
  const Head<T> out{args.output<T>(0) + q_at, q_stride};
  const Head<float> y = copies.result(out, rows);
  forward_rows(s, q, k, v, y, args.output<float>(1) + q_at / s.width, i0, t);
  copies.give_back(y, out, rows);
}

}  // namespace

AttentionShape attention_shape(const TensorDesc& q, const TensorDesc& k) {
  const std::int64_t heads = q.extent("heads"), kv_heads = k.extent("kv_heads");
  return {.batch = q.extent("batch"),
          .seq = q.extent("seq"),
          .heads = heads,
          .kv_heads = kv_heads,
          .width = q.extent("head_dim"),
          .group = heads / kv_heads};
}

AttentionShape attention_shape(const KernelNode& node, bool is_grad) {
  const TensorDesc &q = node.input(is_grad ? 1 : 0), &k = node.input(is_grad ? 2 : 1);
  const AxisRange heads = node.range(q, "heads"), kv_heads = node.range(k, "kv_heads");
  AttentionShape shape = attention_shape(q, k);
  shape.group = heads.num_global / kv_heads.num_global;
  shape.first_head = heads.offset;
  shape.first_kv_head = kv_heads.offset;
  shape.ordered = node.attrs.flag("ordered");
  shape.head_pieces = pieced_sum(node, q, {"heads"}).num_pieces;
  return shape;
}

std::size_t attention_scratch_bytes(const KernelNode& node) {
  return static_cast<std::size_t>(node.num_threads * floats_a_thread(node, false)) * sizeof(float);
}
std::size_t attention_grad_scratch_bytes(const KernelNode& node) {
  return static_cast<std::size_t>(node.num_threads * floats_a_thread(node, true)) * sizeof(float);
}

Kernel attention_kernel(const KernelNode& node) {
  const AttentionShape s = attention_shape(node, false);
  const std::int64_t num_blocks = (s.seq + kBlock - 1) / kBlock, floats = floats_a_thread(node, false);
  return with_floating(node.input(0).dtype, [&](auto type) {
    return parallel_kernel(node, s.batch * s.heads * num_blocks,
                           [=](const KernelArgs& args, std::int64_t task) {
                             const std::int64_t head = task / num_blocks, i0 = task % num_blocks * kBlock;
                             forward_task<decltype(type)>(s, args, head / s.heads, head % s.heads, i0,
                                                          Scratch(args.scratch, floats));
                           });
  });
}

Kernel attention_grad_kernel(const KernelNode& node) {
  const AttentionShape s = attention_shape(node, true);
  const std::int64_t floats = floats_a_thread(node, true);
  return with_floating(node.input(1).dtype, [&](auto type) {
    return parallel_kernel(node, s.batch * s.kv_heads, [=](const KernelArgs& args, std::int64_t task) {
      const auto run = s.ordered ? backward_task_ordered<decltype(type)> : backward_task<decltype(type)>;
      run(s, args, task / s.kv_heads, task % s.kv_heads, Scratch(args.scratch, floats));
    });
  });
}

}  // namespace takt
