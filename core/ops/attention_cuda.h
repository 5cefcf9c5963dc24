// The two ways in which a GPU computes attention: cuDNN's fused engines, in bf16, and our own kernels for the rest.
#pragma once

#include <optional>
#include <string>

#include "core/device/cuda/cudnn_graph.h"
#include "core/ops/attention_blocks.h"

namespace takt::cuda {

// Which of the two a node gets.
struct AttentionChoice {
  std::optional<CudnnPlan> plan;  // empty: our own kernels,
  std::string reason;             // because of this
};

// Asks cuDNN; compiles its kernels, up to seconds. `backward`: the gradient's node.
AttentionChoice choose_attention(const KernelNode& node, bool backward);

// Our own kernels (attention.cu): any width, f32 and bf16, the same bits in every run.
Kernel own_attention(const AttentionShape& shape, DType dtype);
Kernel own_attention_grad(const AttentionShape& shape, DType dtype);
std::size_t own_attention_grad_scratch_bytes(const AttentionShape& shape);

}  // namespace takt::cuda
