// The order of operations is what cuDNN's engines match, not ours to choose: scores = q k^T, scale, mask, softmax as
// max, sub, exp, sum, (log, add for the statistics,) div, times v. Every value between is virtual.
//
// The one operation for all of it (SDPA_FWD) has no mask before cuDNN 9.21, and its gradient is refused.
//
// Source    NVIDIA cuDNN developer guide, graph API, "Fused Flash Attention fprop" and "bprop".
#include "core/device/cuda/cudnn_attention.h"

#include <cmath>
#include <limits>

namespace takt {
namespace {

using Shape = CudnnAttentionShape;

CudnnDims rows(const Shape& s) {
  return {s.batch, s.heads, s.seq, s.width};
}
CudnnDims scores(const Shape& s) {
  return {s.batch, s.heads, s.seq, s.seq};
}
CudnnDims statistics(const Shape& s) {
  return {s.batch, s.heads, s.seq, 1};
}

// [batch, seq, heads, width] in memory, seen as [batch, heads, seq, width].
CudnnDims heads_inside(const Shape& s, std::int64_t heads) {
  return {s.seq * heads * s.width, s.width, heads * s.width, 1};
}
CudnnTensor query(CudnnGraph& g, const Shape& s) {
  return g.tensor(rows(s), heads_inside(s, s.heads), to_cudnn(s.dtype));
}
CudnnTensor key(CudnnGraph& g, const Shape& s) {
  return g.tensor({s.batch, s.kv_heads, s.seq, s.width}, heads_inside(s, s.kv_heads_in_memory),
                  to_cudnn(s.dtype));
}
// As key, with the last two dimensions exchanged.
CudnnTensor key_transposed(CudnnGraph& g, const Shape& s) {
  const CudnnDims strides = heads_inside(s, s.kv_heads_in_memory);
  return g.tensor({s.batch, s.kv_heads, s.width, s.seq}, {strides[0], strides[1], strides[3], strides[2]},
                  to_cudnn(s.dtype));
}
CudnnTensor log_sum_exp(CudnnGraph& g, const Shape& s) {
  return g.tensor(statistics(s), {s.seq * s.heads, 1, s.heads, 1}, CUDNN_DATA_FLOAT);
}

CudnnTensor apply(CudnnGraph& g, cudnnPointwiseMode_t mode, std::initializer_list<CudnnTensor> inputs,
                  cudnnDataType_t type = CUDNN_DATA_FLOAT, std::optional<std::int64_t> axis = {}) {
  const CudnnTensor y = g.between(inputs.begin()->dims, type);
  g.pointwise(mode, inputs, y, axis);
  return y;
}

CudnnTensor scaled_scores(CudnnGraph& g, const Shape& s, const CudnnTensor& q,
                          const CudnnTensor& k_transposed) {
  const CudnnTensor products = g.between(scores(s));
  g.matmul(q, k_transposed, products);
  return apply(g, CUDNN_POINTWISE_MUL, {products, g.constant(1.0f / std::sqrt(static_cast<float>(s.width)))});
}

// Keys after the query vanish in the exponential.
CudnnTensor causal(CudnnGraph& g, const CudnnTensor& x) {
  const CudnnTensor row = apply(g, CUDNN_POINTWISE_GEN_INDEX, {x}, CUDNN_DATA_INT32, 2),
                    column = apply(g, CUDNN_POINTWISE_GEN_INDEX, {x}, CUDNN_DATA_INT32, 3),
                    visible = apply(g, CUDNN_POINTWISE_CMP_GE, {row, column}, CUDNN_DATA_BOOLEAN);
  return apply(g, CUDNN_POINTWISE_BINARY_SELECT,
               {x, g.constant(std::numeric_limits<float>::lowest()), visible});
}

CudnnTensor reduced(CudnnGraph& g, cudnnReduceTensorOp_t op, const Shape& s, const CudnnTensor& x) {
  const CudnnTensor y = g.between(statistics(s));
  g.reduce(op, x, y);
  return y;
}

// The scores' transpose, as operand of the products for dk and dv.
CudnnTensor transposed(CudnnGraph& g, const Shape& s, const CudnnTensor& x) {
  const CudnnTensor y =
      g.between(scores(s), to_cudnn(s.dtype), {s.heads * s.seq * s.seq, s.seq * s.seq, 1, s.seq});
  g.reshape(x, y);
  return y;
}

// y = a b, added up over the query heads that share a key head.
void product_of_group(CudnnGraph& g, const Shape& s, const CudnnTensor& a, const CudnnTensor& b,
                      const CudnnTensor& y) {
  if (s.heads == s.kv_heads) return g.matmul(a, b, y);
  const CudnnTensor every_head = g.between(rows(s), to_cudnn(s.dtype));
  g.matmul(a, b, every_head);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, every_head, y);
}

}  // namespace

CudnnGraph cudnn_attention(const CudnnAttentionShape& s) {
  CudnnGraph g;
  const CudnnTensor q = query(g, s), k = key_transposed(g, s), v = key(g, s), y = query(g, s),
                    lse = log_sum_exp(g, s);
  const CudnnTensor masked = causal(g, scaled_scores(g, s, q, k));
  const CudnnTensor max = reduced(g, CUDNN_REDUCE_TENSOR_MAX, s, masked);
  const CudnnTensor e = apply(g, CUDNN_POINTWISE_EXP, {apply(g, CUDNN_POINTWISE_SUB, {masked, max})});
  const CudnnTensor sum = reduced(g, CUDNN_REDUCE_TENSOR_ADD, s, e);
  g.pointwise(CUDNN_POINTWISE_ADD, {max, apply(g, CUDNN_POINTWISE_LOG, {sum})}, lse);
  g.matmul(apply(g, CUDNN_POINTWISE_DIV, {e, sum}, to_cudnn(s.dtype)), v, y);
  return g;
}

CudnnGraph cudnn_attention_grad(const CudnnAttentionShape& s) {
  CudnnGraph g;
  const CudnnTensor q = query(g, s), k = key_transposed(g, s), v = key_transposed(g, s), y = query(g, s),
                    dy = query(g, s), lse = log_sum_exp(g, s);
  const CudnnTensor dq = query(g, s), dk = key(g, s), dv = key(g, s);
  const CudnnTensor d = g.tensor(statistics(s), row_major_strides(statistics(s)), CUDNN_DATA_FLOAT);
  const CudnnTensor dq_sum = g.tensor(rows(s), row_major_strides(rows(s)), CUDNN_DATA_FLOAT);

  const CudnnTensor products = apply(g, CUDNN_POINTWISE_MUL, {dy, y});
  g.pointwise(CUDNN_POINTWISE_MUL, {reduced(g, CUDNN_REDUCE_TENSOR_ADD, s, products), g.constant(1.0f)}, d);

  const CudnnTensor shifted = apply(g, CUDNN_POINTWISE_SUB, {scaled_scores(g, s, q, k), lse});
  const CudnnTensor p = apply(g, CUDNN_POINTWISE_EXP, {causal(g, shifted)});
  product_of_group(g, s, transposed(g, s, p), dy, dv);

  const CudnnTensor dp = g.between(scores(s));
  g.matmul(dy, v, dp);
  const CudnnTensor unscaled = apply(g, CUDNN_POINTWISE_MUL, {apply(g, CUDNN_POINTWISE_SUB, {dp, d}), p});
  const CudnnTensor ds =
      apply(g, CUDNN_POINTWISE_MUL, {unscaled, g.constant(1.0f / std::sqrt(static_cast<float>(s.width)))},
            to_cudnn(s.dtype));
  product_of_group(g, s, transposed(g, s, ds), q, dk);

  const CudnnTensor k_rows = g.between({s.batch, s.kv_heads, s.seq, s.width}, to_cudnn(s.dtype),
                                       heads_inside(s, s.kv_heads_in_memory));
  g.reshape(k, k_rows);
  g.matmul(ds, k_rows, dq_sum);
  g.pointwise(CUDNN_POINTWISE_IDENTITY, {dq_sum}, dq);
  return g;
}

std::size_t cudnn_attention_workspace_bytes(const CudnnAttentionShape& s, bool backward) {
  constexpr std::int64_t kMargin = 1 << 20, kTile = 128;  // the last tile of positions is a whole one
  const std::int64_t rows = s.batch * s.heads * ((s.seq + kTile - 1) / kTile * kTile);
  return static_cast<std::size_t>((backward ? 8 * rows * s.width : 0) + kMargin);
}

}  // namespace takt
