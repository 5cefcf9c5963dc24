// cross_entropy: the loss of every token, over a vocabulary that may be sharded.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& sum_exp_op();
const OpDef& pick_op();
const OpDef& cross_entropy_op();
const OpDef& cross_entropy_grad_op();

// logits: [..., vocab]; targets: i32, the same axes without vocab. Returns -log softmax(logits)[target], f32.
// A composite: maximum, sum of exponentials and the target's logit are reduced over vocab one number a token,
// so a sharded vocabulary costs three small all-reduces and the logits are never gathered.
ValueId cross_entropy(Graph& graph, ValueId logits, ValueId targets, const std::string& name);

}  // namespace takt
