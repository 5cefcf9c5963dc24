// The list of ops: a new op is its own file and one line here. The contract tests walk this list.
#include "core/ops/registry.h"

#include <array>

#include "core/ops/builders.h"

namespace takt {

std::span<const OpDef* const> op_registry() {
  static const std::array ops = {
      &accumulate_op(),
      &activation_op(),
      &activation_grad_op(),
      &add_op(),
      &all_gather_op(),
      &all_reduce_op(),
      &all_to_all_op(),
      &assign_op(),
      &attention_op(),
      &attention_grad_op(),
      &broadcast_op(),
      &cast_op(),
      &clip_factor_op(),
      &combine_op(),
      &cross_entropy_op(),
      &cross_entropy_grad_op(),
      &dispatch_op(),
      &done_op(),
      &embedding_op(),
      &embedding_grad_op(),
      &fill_op(),
      &gated_op(),
      &gated_grad_op(),
      &keep_on_first_op(),
      &local_slice_op(),
      &matmul_op(),
      &norm_op(),
      &norm_grad_op(),
      &pick_op(),
      &reduce_op(),
      &reduce_scatter_op(),
      &reshape_op(),
      &rotary_op(),
      &rotary_table_op(),
      &route_op(),
      &route_grad_op(),
      &router_loss_op(),
      &router_loss_grad_op(),
      &scale_op(),
      &slot_dot_op(),
      &softmax_op(),
      &softmax_grad_op(),
      &squared_error_op(),
      &squared_error_grad_op(),
      &stack_op(),
      &sum_exp_op(),
      &sum_squares_op(),
      &unstack_op(),
  };
  return ops;
}

}  // namespace takt
