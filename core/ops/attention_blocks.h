// The CPU kernels of attention: blocks of 64 queries by 64 keys, online softmax.
#pragma once

#include <cstddef>
#include <cstdint>

namespace takt {

struct AttentionShape {
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, width = 0;  // local extents
  std::int64_t group = 1;                                               // query heads a key head, globally
  std::int64_t first_head = 0, first_kv_head = 0;  // global numbers of the first local heads

  // The local key head that a local query head uses.
  std::int64_t kv_head(std::int64_t head) const { return (first_head + head) / group - first_kv_head; }
};

struct AttentionInputs {
  const float *q, *k, *v;
};
struct AttentionSaved {
  const float *dy, *y, *lse;
};
struct AttentionGrads {
  float *dq, *dk, *dv;
};

// Scratch for either direction.
std::size_t attention_scratch_bytes(int num_threads);

void attention_forward(const AttentionShape& shape, const AttentionInputs& in, float* y, float* lse,
                       float* scratch, int num_threads);
void attention_backward(const AttentionShape& shape, const AttentionInputs& in, const AttentionSaved& saved,
                        const AttentionGrads& out, float* scratch, int num_threads);

}  // namespace takt
