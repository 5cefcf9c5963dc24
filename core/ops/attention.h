// attention: causal softmax attention with grouped queries.
#pragma once

#include <string>

#include "core/graph/graph.h"

namespace takt {

const OpDef& attention_op();
const OpDef& attention_grad_op();
// q: [batch, seq, heads, head_dim]; k, v: [batch, seq, kv_heads, head_dim]; heads is a multiple of kv_heads.
// y: like q. Scores are scaled by 1 / sqrt(head_dim).
ValueId attention(Graph& graph, ValueId q, ValueId k, ValueId v, const std::string& name);

}  // namespace takt
