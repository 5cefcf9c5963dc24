// Attention as graphs of cuDNN: the patterns that its fused engines recognise.
#pragma once

#include <cstdint>

#include "core/device/cuda/cudnn_graph.h"

namespace takt {

// Causal attention of a rank over tensors [batch, seq, heads or kv_heads, width] and statistics [batch, seq, heads].
// Query head h uses key head h / (heads / kv_heads), counted from where the pointers of k and v begin.
struct CudnnAttentionShape {
  std::int64_t batch = 0, seq = 0, heads = 0, kv_heads = 0, width = 0;
  std::int64_t kv_heads_in_memory = 0;  // heads between two positions of k and v, at least kv_heads
  DType dtype = DType::kBF16;

  // f32 elements of the gradient's scratch beside cuDNN's own workspace.
  std::int64_t num_rows() const { return batch * seq * heads; }
};

// y and lse from q, k and v. Tensors in this order: q k v y lse.
CudnnGraph cudnn_attention(const CudnnAttentionShape& shape);

// dq, dk and dv. Tensors in this order: q k v y dy lse dq dk dv, then scratch that the graph writes before it reads:
// D, f32, num_rows; and the sum of dq, f32, num_rows x width, which must be zero when the graph starts.
CudnnGraph cudnn_attention_grad(const CudnnAttentionShape& shape);

// What cuDNN's engines want as workspace, at most. The memory plan is made before there is a GPU to ask, so cuDNN gets a
// limit and not what it would like. Measured with 9.19 for H100, B200 and RTX PRO 6000: 256 bytes; for the gradient 4 bytes
// an element of q for a sum of dq, and 2 each for the dk and dv of every query head (tests/emulated/real_cudnn).
std::size_t cudnn_attention_workspace_bytes(const CudnnAttentionShape& shape, bool backward);

}  // namespace takt
