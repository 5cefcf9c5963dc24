// Attention on a GPU: bf16 goes to cuDNN where it has an engine for it, everything else to our own kernels.
//
// f32 stays ours: cuDNN has no gradient in f32, and its forward does not say whether it rounds operands to TF32, which
// f32's tolerance does not allow. Choosing compiles kernels; it happens once, when a node is prepared.
#include "core/ops/attention_cuda.h"

#include <array>
#include <memory>

#include "core/device/cuda/context.h"
#include "core/device/cuda/cudnn_attention.h"
#include "core/device/cuda/error.h"
#include "core/ops/cuda_kernels.h"

namespace takt::cuda {
namespace {

// The key heads that a rank's query heads use. A rank may hold more: k and v are whole where there are too few to shard.
struct UsedKeyHeads {
  std::int64_t first = 0, num = 0;
  bool even = true;  // each by the same number of query heads, in order, as cuDNN assumes
};

UsedKeyHeads used_key_heads(const AttentionShape& s) {
  UsedKeyHeads used{s.kv_head(0), s.kv_head(s.heads - 1) - s.kv_head(0) + 1};
  for (std::int64_t h = 0; h < s.heads; ++h)
    used.even &= s.heads % used.num == 0 && s.kv_head(h) == used.first + h / (s.heads / used.num);
  return used;
}

CudnnAttentionShape cudnn_shape(const AttentionShape& s, DType dtype) {
  return {s.batch, s.seq, s.heads, used_key_heads(s).num, s.width, s.kv_heads, dtype};
}

constexpr std::size_t aligned(std::size_t num_bytes) {
  constexpr std::size_t kAlignment = 256;
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// What the gradient's graph wants beside cuDNN's workspace, in this order.
struct GradScratch {
  std::size_t d_bytes, dq_sum_bytes;
  explicit GradScratch(const CudnnAttentionShape& s)
      : d_bytes(aligned(static_cast<std::size_t>(s.num_rows()) * sizeof(float))),
        dq_sum_bytes(aligned(static_cast<std::size_t>(s.num_rows() * s.width) * sizeof(float))) {}
};

struct Problem {
  AttentionShape shape;
  DType dtype;
  Problem(const KernelNode& node, bool backward)
      : shape(attention_shape(node, backward)), dtype(node.input(backward ? 1 : 0).dtype) {}
};

// Where the key heads that are used begin.
template <class Pointer>
Pointer first_used(Pointer k, const AttentionShape& s) {
  return static_cast<std::byte*>(k) +
         static_cast<std::size_t>(used_key_heads(s).first * s.width) * num_bytes(DType::kBF16);
}

Kernel cudnn_kernel(const KernelNode& node, CudnnPlan plan) {
  return [shape = Problem(node, false).shape, handle = node.cuda->cudnn(),
          plan = std::make_shared<CudnnPlan>(std::move(plan))](const KernelArgs& k) {
    const std::array tensors = {k.inputs[0], first_used(k.inputs[1], shape), first_used(k.inputs[2], shape),
                                k.outputs[0], k.outputs[1]};
    plan->run(handle, static_cast<cudaStream_t>(k.stream), tensors, k.scratch);
  };
}

// Key heads that no query head of this rank uses have a gradient too: zero.
void clear_unused(const AttentionShape& s, const KernelArgs& k, cudaStream_t stream) {
  if (used_key_heads(s).num == s.kv_heads) return;
  const auto bytes =
      static_cast<std::size_t>(s.batch * s.seq * s.kv_heads * s.width) * num_bytes(DType::kBF16);
  TAKT_CUDA(cudaMemsetAsync(k.outputs[1], 0, bytes, stream));
  TAKT_CUDA(cudaMemsetAsync(k.outputs[2], 0, bytes, stream));
}

Kernel cudnn_grad_kernel(const KernelNode& node, CudnnPlan plan) {
  const Problem problem(node, true);
  return [shape = problem.shape, scratch = GradScratch(cudnn_shape(problem.shape, problem.dtype)),
          handle = node.cuda->cudnn(),
          plan = std::make_shared<CudnnPlan>(std::move(plan))](const KernelArgs& k) {
    const auto stream = static_cast<cudaStream_t>(k.stream);
    std::byte* const d = static_cast<std::byte*>(k.scratch);
    std::byte* const dq_sum = d + scratch.d_bytes;
    clear_unused(shape, k, stream);
    // cuDNN says that it does this itself since 9.6; gradients that are silently wrong would cost more than a fill.
    TAKT_CUDA(cudaMemsetAsync(dq_sum, 0, scratch.dq_sum_bytes, stream));
    const std::array<void*, 11> tensors = {k.inputs[1],
                                           first_used(k.inputs[2], shape),
                                           first_used(k.inputs[3], shape),
                                           k.inputs[4],
                                           k.inputs[0],
                                           k.inputs[5],
                                           k.outputs[0],
                                           first_used(k.outputs[1], shape),
                                           first_used(k.outputs[2], shape),
                                           d,
                                           dq_sum};
    plan->run(handle, stream, tensors, dq_sum + scratch.dq_sum_bytes);
  };
}

Kernel prepare(const KernelNode& node) {
  AttentionChoice choice = choose_attention(node, false);
  if (choice.plan) return cudnn_kernel(node, std::move(*choice.plan));
  const Problem problem(node, false);
  return own_attention(problem.shape, problem.dtype);
}

Kernel prepare_grad(const KernelNode& node) {
  AttentionChoice choice = choose_attention(node, true);
  if (choice.plan) return cudnn_grad_kernel(node, std::move(*choice.plan));
  const Problem problem(node, true);
  return own_attention_grad(problem.shape, problem.dtype);
}

std::size_t scratch_bytes(const KernelNode& node) {
  const Problem problem(node, false);
  if (problem.dtype != DType::kBF16) return 0;
  return cudnn_attention_workspace_bytes(cudnn_shape(problem.shape, problem.dtype), false);
}

std::size_t scratch_bytes_grad(const KernelNode& node) {
  const Problem problem(node, true);
  if (problem.dtype != DType::kBF16) return own_attention_grad_scratch_bytes(problem.shape);
  const CudnnAttentionShape shape = cudnn_shape(problem.shape, problem.dtype);
  const GradScratch scratch(shape);
  return scratch.d_bytes + scratch.dq_sum_bytes + cudnn_attention_workspace_bytes(shape, true);
}

}  // namespace

AttentionChoice choose_attention(const KernelNode& node, bool backward) {
  const Problem problem(node, backward);
  if (problem.dtype != DType::kBF16)
    return {{}, concat("cuDNN has no gradient in ", problem.dtype, " and may round operands of the forward")};
  const UsedKeyHeads used = used_key_heads(problem.shape);
  if (!used.even)
    return {{},
            concat("the rank's ", problem.shape.heads, " query heads share ", used.num,
                   " key heads unevenly, which cuDNN cannot say")};
  const CudnnAttentionShape shape = cudnn_shape(problem.shape, problem.dtype);
  CudnnPlanning planning =
      plan_cudnn_graph(backward ? cudnn_attention_grad(shape) : cudnn_attention(shape), {node.cuda->cudnn()},
                       cudnn_attention_workspace_bytes(shape, backward));
  return {std::move(planning.plan), std::move(planning.refusal)};
}

DeviceKernel attention() {
  return {.prepare = prepare, .scratch_bytes = scratch_bytes, .bf16 = true};
}

DeviceKernel attention_grad() {
  return {.prepare = prepare_grad, .scratch_bytes = scratch_bytes_grad, .bf16 = true};
}

}  // namespace takt::cuda
