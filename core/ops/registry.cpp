// The list of ops: a new op is its own file and one line here. The contract tests walk this list.
#include "core/ops/registry.h"

#include <array>

#include "core/ops/accumulate.h"
#include "core/ops/activation.h"
#include "core/ops/add.h"
#include "core/ops/attention.h"
#include "core/ops/conversion.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/embedding.h"
#include "core/ops/fill.h"
#include "core/ops/gated.h"
#include "core/ops/grad_norm.h"
#include "core/ops/matmul.h"
#include "core/ops/norm.h"
#include "core/ops/reduce.h"
#include "core/ops/reshape.h"
#include "core/ops/rotary.h"
#include "core/ops/scale.h"
#include "core/ops/softmax.h"
#include "core/ops/stack.h"

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
      &attention_op(),
      &attention_grad_op(),
      &broadcast_op(),
      &clip_factor_op(),
      &cross_entropy_op(),
      &cross_entropy_grad_op(),
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
      &scale_op(),
      &softmax_op(),
      &softmax_grad_op(),
      &stack_op(),
      &sum_exp_op(),
      &sum_squares_op(),
      &unstack_op(),
  };
  return ops;
}

}  // namespace takt
