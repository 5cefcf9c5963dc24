// Attention on the CPU: small oneDNN products over blocks of scores that stay in the cache.
//
// Forward: per block of queries, keys are walked in order; the running maximum m and sum l rescale what was
// accumulated when a larger score appears (online softmax, Milakov and Gimelshein 2018, arXiv:1805.02867).
// Backward: a key head is one task, which adds up dk and dv over the query heads of its group in a fixed
// order.
#include "core/ops/attention_blocks.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/device/onednn.h"
#include "core/ops/parallel_for.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

constexpr std::int64_t kBlock = 64;

// Scratch of one thread: two score blocks and row statistics.
struct Scratch {
  float *scores, *grads, *max, *sum;
  explicit Scratch(float* base) {
    scores = base + omp_get_thread_num() * kFloats;
    grads = scores + kBlock * kBlock;
    max = grads + kBlock * kBlock;
    sum = max + kBlock;
  }
  static constexpr std::int64_t kFloats = 2 * kBlock * kBlock + 2 * kBlock;
};

// Strides in elements between positions of one head.
struct Strides {
  std::int64_t q, kv;
  explicit Strides(const AttentionShape& s) : q(s.heads * s.width), kv(s.kv_heads * s.width) {}
};

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

void forward_rows(const AttentionShape& s, const float* q, const float* k, const float* v, float* y,
                  float* lse, std::int64_t i0, Scratch t) {
  const Strides stride(s);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.width));
  const std::int64_t rows = std::min(kBlock, s.seq - i0);
  std::fill(t.max, t.max + rows, std::numeric_limits<float>::lowest());
  std::fill(t.sum, t.sum + rows, 0.0f);
  for (std::int64_t j0 = 0; j0 < i0 + rows; j0 += kBlock) {
    const std::int64_t keys = std::min(kBlock, s.seq - j0);
    onednn_sgemm(false, true, rows, keys, s.width, scale, q + i0 * stride.q, stride.q, k + j0 * stride.kv,
                 stride.kv, 0.0f, t.scores, kBlock);
    online_softmax(t.scores, y + i0 * stride.q, stride.q, t, i0, rows, j0, keys, s.width);
    onednn_sgemm(false, false, rows, s.width, keys, 1.0f, t.scores, kBlock, v + j0 * stride.kv, stride.kv,
                 j0 == 0 ? 0.0f : 1.0f, y + i0 * stride.q, stride.q);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float inverse = 1.0f / t.sum[r];
    for (std::int64_t d = 0; d < s.width; ++d) y[(i0 + r) * stride.q + d] *= inverse;
    lse[(i0 + r) * s.heads] = t.max[r] + std::log(t.sum[r]);
  }
}

// Scores become P, and dP = dy v^T becomes dS = P (dP - D).
void score_grads(const AttentionShape& s, const float* dy, const float* y, const float* lse, const Scratch& t,
                 std::int64_t i0, std::int64_t rows, std::int64_t j0, std::int64_t keys) {
  const Strides stride(s);
  for (std::int64_t r = 0; r < rows; ++r) {
    float *p = t.scores + r * kBlock, *ds = t.grads + r * kBlock;
    const std::int64_t visible = std::clamp<std::int64_t>(i0 + r - j0 + 1, 0, keys);
    const float log_sum = lse[(i0 + r) * s.heads];
    float d = 0;
    for (std::int64_t e = 0; e < s.width; ++e) d += y[(i0 + r) * stride.q + e] * dy[(i0 + r) * stride.q + e];
    for (std::int64_t c = 0; c < visible; ++c) p[c] = exp_cephes(p[c] - log_sum);
    for (std::int64_t c = 0; c < visible; ++c) ds[c] = p[c] * (ds[c] - d);
    std::fill(p + visible, p + keys, 0.0f);
    std::fill(ds + visible, ds + keys, 0.0f);
  }
}

struct HeadPointers {
  const float *q, *k, *v, *dy, *y, *lse;
  float *dq, *dk, *dv;
};

// All blocks of one query head; adds to dk and dv, which start at zero.
void backward_head(const AttentionShape& s, const HeadPointers& h, Scratch t) {
  const Strides stride(s);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.width));
  for (std::int64_t i0 = 0; i0 < s.seq; i0 += kBlock) {
    const std::int64_t rows = std::min(kBlock, s.seq - i0);
    const float *q = h.q + i0 * stride.q, *dy = h.dy + i0 * stride.q;
    for (std::int64_t j0 = 0; j0 < i0 + rows; j0 += kBlock) {
      const std::int64_t keys = std::min(kBlock, s.seq - j0), at = j0 * stride.kv;
      onednn_sgemm(false, true, rows, keys, s.width, scale, q, stride.q, h.k + at, stride.kv, 0.0f, t.scores,
                   kBlock);
      onednn_sgemm(false, true, rows, keys, s.width, 1.0f, dy, stride.q, h.v + at, stride.kv, 0.0f, t.grads,
                   kBlock);
      score_grads(s, h.dy, h.y, h.lse, t, i0, rows, j0, keys);
      onednn_sgemm(true, false, keys, s.width, rows, 1.0f, t.scores, kBlock, dy, stride.q, 1.0f, h.dv + at,
                   stride.kv);
      onednn_sgemm(false, false, rows, s.width, keys, scale, t.grads, kBlock, h.k + at, stride.kv,
                   j0 == 0 ? 0.0f : 1.0f, h.dq + i0 * stride.q, stride.q);
      onednn_sgemm(true, false, keys, s.width, rows, scale, t.grads, kBlock, q, stride.q, 1.0f, h.dk + at,
                   stride.kv);
    }
  }
}

}  // namespace

std::size_t attention_scratch_bytes(int num_threads) {
  return static_cast<std::size_t>(num_threads) * static_cast<std::size_t>(Scratch::kFloats) * sizeof(float);
}

void attention_forward(const AttentionShape& s, const AttentionInputs& in, float* y, float* lse,
                       float* scratch, int num_threads) {
  const std::int64_t num_blocks = (s.seq + kBlock - 1) / kBlock;
  parallel_for(num_threads, s.batch * s.heads * num_blocks, [&](std::int64_t task) {
    const std::int64_t block = task % num_blocks, h = task / num_blocks % s.heads,
                       b = task / num_blocks / s.heads;
    const std::int64_t q_at = (b * s.seq * s.heads + h) * s.width,
                       kv_at = (b * s.seq * s.kv_heads + s.kv_head(h)) * s.width;
    forward_rows(s, in.q + q_at, in.k + kv_at, in.v + kv_at, y + q_at, lse + b * s.seq * s.heads + h,
                 block * kBlock, Scratch(scratch));
  });
}

void attention_backward(const AttentionShape& s, const AttentionInputs& in, const AttentionSaved& saved,
                        const AttentionGrads& out, float* scratch, int num_threads) {
  parallel_for(num_threads, s.batch * s.kv_heads, [&](std::int64_t task) {
    const std::int64_t b = task / s.kv_heads, kv = task % s.kv_heads,
                       kv_at = (b * s.seq * s.kv_heads + kv) * s.width;
    for (std::int64_t p = 0; p < s.seq; ++p) {
      std::fill_n(out.dk + kv_at + p * s.kv_heads * s.width, s.width, 0.0f);
      std::fill_n(out.dv + kv_at + p * s.kv_heads * s.width, s.width, 0.0f);
    }
    for (std::int64_t h = 0; h < s.heads; ++h) {
      if (s.kv_head(h) != kv) continue;
      const std::int64_t q_at = (b * s.seq * s.heads + h) * s.width;
      backward_head(s,
                    {in.q + q_at, in.k + kv_at, in.v + kv_at, saved.dy + q_at, saved.y + q_at,
                     saved.lse + b * s.seq * s.heads + h, out.dq + q_at, out.dk + kv_at, out.dv + kv_at},
                    Scratch(scratch));
    }
  });
}

}  // namespace takt
