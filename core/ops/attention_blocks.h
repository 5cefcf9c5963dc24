// The sizes of attention on a rank, and its CPU kernels: blocks of 64 queries by 64 keys, online softmax.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/tensor.h"
#include "core/graph/op.h"

namespace takt {

struct AttentionShape {
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, width = 0;  // local extents
  std::int64_t group = 1;                                               // query heads a key head, globally
  std::int64_t first_head = 0, first_kv_head = 0;  // global numbers of the first local heads

  // The local key head that a local query head uses.
  std::int64_t kv_head(std::int64_t head) const { return (first_head + head) / group - first_kv_head; }
};

// What a rank computes of a node with these queries and keys.
AttentionShape attention_shape(const KernelNode& node, const TensorDesc& q, const TensorDesc& k);

// T is float or BF16; sums and statistics are f32 in both. bf16 heads are widened to f32 copies in the thread's scratch,
// block by block as they are needed: about 1/100 of a FLOP a FLOP.
template <class T>
struct AttentionInputs {
  const T *q, *k, *v;
};
template <class T>
struct AttentionSaved {
  const T *dy, *y;
  const float* lse;
};
template <class T>
struct AttentionGrads {
  T *dq, *dk, *dv;
};

std::size_t attention_scratch_bytes(const AttentionShape& shape, DType dtype, bool backward, int num_threads);

template <class T>
void attention_forward(const AttentionShape& shape, const AttentionInputs<T>& in, T* y, float* lse,
                       float* scratch, int num_threads);
template <class T>
void attention_backward(const AttentionShape& shape, const AttentionInputs<T>& in,
                        const AttentionSaved<T>& saved, const AttentionGrads<T>& out, float* scratch,
                        int num_threads);

}  // namespace takt
