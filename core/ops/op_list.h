// The list of ops: a new op is its own file and one line here. From it come the declarations of its record and of its CUDA
// kernel, its name and the registry.
#pragma once

// Calls OP(name) for every op.
#define TAKT_OPS(OP)     \
  OP(accumulate)         \
  OP(activation)         \
  OP(activation_grad)    \
  OP(add)                \
  OP(all_gather)         \
  OP(all_reduce)         \
  OP(all_to_all)         \
  OP(assign)             \
  OP(attention)          \
  OP(attention_grad)     \
  OP(broadcast)          \
  OP(cast)               \
  OP(clip_factor)        \
  OP(combine)            \
  OP(cross_entropy)      \
  OP(cross_entropy_grad) \
  OP(dispatch)           \
  OP(done)               \
  OP(embedding)          \
  OP(embedding_grad)     \
  OP(fill)               \
  OP(gated)              \
  OP(gated_grad)         \
  OP(keep_on_first)      \
  OP(local_slice)        \
  OP(matmul)             \
  OP(norm)               \
  OP(norm_grad)          \
  OP(pick)               \
  OP(reduce)             \
  OP(reduce_scatter)     \
  OP(reshape)            \
  OP(rotary)             \
  OP(rotary_table)       \
  OP(route)              \
  OP(route_grad)         \
  OP(router_loss)        \
  OP(router_loss_grad)   \
  OP(scale)              \
  OP(slot_dot)           \
  OP(softmax)            \
  OP(softmax_grad)       \
  OP(squared_error)      \
  OP(squared_error_grad) \
  OP(stack)              \
  OP(sum_exp)            \
  OP(sum_squares)        \
  OP(unstack)
