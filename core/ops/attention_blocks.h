// The sizes of attention on a rank, and its CPU kernels: blocks of 64 queries by 64 keys, online softmax.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/graph/op.h"

namespace takt {

struct AttentionShape {
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, width = 0;  // local extents
  std::int64_t group = 1;                                               // query heads a key head, globally
  std::int64_t first_head = 0, first_kv_head = 0;  // global numbers of the first local heads
  bool ordered = false;                            // products and sums over heads have one order,
  std::int64_t head_pieces = 1;                    // the latter in so many pieces, see ordered_sum.h

  // The local key head that a local query head uses.
  std::int64_t kv_head(std::int64_t head) const { return (first_head + head) / group - first_kv_head; }
  // Where the elements of sample b, position s and a head begin: in q and what is like it, in k and what is like it.
  std::int64_t q_at(std::int64_t b, std::int64_t s, std::int64_t head) const {
    return ((b * seq + s) * heads + head) * width;
  }
  std::int64_t kv_at(std::int64_t b, std::int64_t s, std::int64_t head) const {
    return ((b * seq + s) * kv_heads + head) * width;
  }
};

// Of these queries and keys where nothing is sharded.
AttentionShape attention_shape(const TensorDesc& q, const TensorDesc& k);
// Of what a rank holds of them: q and k are the first inputs of attention, behind dy those of its gradient.
AttentionShape attention_shape(const KernelNode& node, bool is_grad);

// Inputs and outputs as the ops have them, see attention.cpp. f32 or bf16; sums and statistics are f32 in both.
// bf16 heads are widened to f32 copies in the thread's scratch, block by block as they are needed: about 1/100
// of a FLOP a FLOP.
Kernel attention_kernel(const KernelNode& node);
Kernel attention_grad_kernel(const KernelNode& node);
std::size_t attention_scratch_bytes(const KernelNode& node);
std::size_t attention_grad_scratch_bytes(const KernelNode& node);

}  // namespace takt
