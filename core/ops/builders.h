// The builders of all ops: each appends a node to a graph and returns its outputs. Beside them the ops' records.
// What an op computes, accepts and costs stands in the opening comment of <op>.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/ops/op_list.h"

namespace takt {

// ---- Products ----

struct MatmulOptions {
  std::optional<ValueId> bias = {};     // f32, whatever the dtypes of a and y
  std::string activation = {};          // "", "gelu", "silu"
  std::optional<DType> out_dtype = {};  // kF32 or that of a, which is the default
};
// y[out] = sum over the axes that a and b share and `out` does not name. See matmul.cpp for what is accepted.
ValueId matmul(Graph& graph, ValueId a, ValueId b, const AxisNames& out, const std::string& name,
               const MatmulOptions& options = {});

// Causal softmax attention with grouped queries. q: [batch, seq, heads, head_dim]; k, v: [batch, seq, kv_heads,
// head_dim]; heads is a multiple of kv_heads. y: like q. Scores are scaled by 1 / sqrt(head_dim).
ValueId attention(Graph& graph, ValueId q, ValueId k, ValueId v, const std::string& name);

// y[tokens' axes, columns] = table[tokens, columns]; table is [rows, columns], tokens i32.
ValueId embedding(Graph& graph, ValueId table, ValueId tokens, const std::string& name);

// ---- Element by element ----

// terms[0] has the result's shape; the others have it too or its last axes (a bias, a position table, a scalar).
ValueId add(Graph& graph, const std::vector<ValueId>& terms, const std::string& name);
// buffer += x, in place: a buffer that lives over all micro-batches of a step.
ValueId accumulate(Graph& graph, ValueId buffer, ValueId x, const std::string& name);
// to += from and from = 0, both in place: buffers of sums over micro-batches, see core/passes/sum_levels.h.
void carry(Graph& graph, ValueId to, ValueId from, const std::string& name);
// target becomes x: how derived values are written.
ValueId assign(Graph& graph, ValueId target, ValueId x, const std::string& name);
// The same numbers as f32 or bf16, rounded to nearest even.
ValueId cast(Graph& graph, ValueId x, DType to, const std::string& name);
ValueId scale(Graph& graph, ValueId x, double factor, const std::string& name);
ValueId fill(Graph& graph, const TensorDesc& desc, double value, const std::string& name);
// y = act(x); kind is "silu" or "gelu" (the tanh form).
ValueId activation(Graph& graph, ValueId x, const std::string& kind, const std::string& name);
// dx = act'(x) dy.
ValueId activation_grad(Graph& graph, ValueId x, ValueId dy, const std::string& kind,
                        const std::string& name);
// y = silu(gate) up, all of one shape: the middle of a gated MLP.
ValueId gated_silu(Graph& graph, ValueId gate, ValueId up, const std::string& name);
// y = (x - target)^2, all of one shape.
ValueId squared_error(Graph& graph, ValueId x, ValueId target, const std::string& name);

// Rotates pairs of x: [..., seq, ..., head_dim] by the angles of `table`: [seq, turn, pair = head_dim / 2];
// `inverse` by the negative angles.
ValueId rotary(Graph& graph, ValueId x, ValueId table, const std::string& name, bool inverse = false);
// f32 [seq, turn = 2, pair = half]: cosine and sine of position times theta^(-pair / half).
ValueId rotary_table(Graph& graph, std::int64_t seq, std::int64_t half, double theta,
                     const std::string& name);

// ---- Rows and sums ----

// y = x / sqrt(mean(x^2) + eps) * weight. Source: Zhang and Sennrich 2019, arXiv:1910.07467.
ValueId rms_norm(Graph& graph, ValueId x, ValueId weight, double eps, const std::string& name);
// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias. Source: Ba et al. 2016, arXiv:1607.06450.
ValueId layer_norm(Graph& graph, ValueId x, ValueId weight, ValueId bias, double eps,
                   const std::string& name);
// Over the last axis.
ValueId softmax(Graph& graph, ValueId x, const std::string& name);
// logits: [..., vocab]; targets: i32, the same axes without vocab. Returns -log softmax(logits)[target], f32.
// A composite: maximum, sum of exponentials and the target's logit are reduced over vocab one number a token,
// so a sharded vocabulary costs three small all-reduces and the logits are never gathered.
ValueId cross_entropy(Graph& graph, ValueId logits, ValueId targets, const std::string& name);
// The axes must stand side by side in x. All axes: a scalar. `out_dtype`: kF32 or that of x, which is the default.
ValueId reduce(Graph& graph, ValueId x, const AxisNames& axes, ReduceOp op, const std::string& name,
               std::optional<DType> out_dtype = {});
// Repeats x along the axes of `dims` that it lacks; those must stand side by side in `dims`.
ValueId broadcast(Graph& graph, ValueId x, const Dims& dims, const std::string& name);
// The sum of squares of all elements, a scalar.
ValueId sum_squares(Graph& graph, ValueId x, const std::string& name);

// The same sum, exactly, as the digits of a whole number, which may be added up over tensors and ranks in any order; and
// the number that digits make, a scalar.
ValueId exact_squares(Graph& graph, ValueId x, const std::string& name);
ValueId digits_value(Graph& graph, ValueId digits, const std::string& name);

struct ClipFactor {
  ValueId norm;    // sqrt(square)
  ValueId factor;  // what gradients are multiplied by: min(1, max_norm / norm); 1 if max_norm is 0
};
ClipFactor clip_factor(Graph& graph, ValueId square, double max_norm, const std::string& name);

// ---- Experts ----

struct Routes {
  ValueId weights;  // f32 [batch, seq, pick]
  ValueId slots;    // i32 [batch, seq, pick]: expert * capacity + place, negative where an expert is full
  ValueId load;     // f32 [batch, choice]: what part of a sample's tokens picked each expert
};
// logits: f32 [batch, seq, choice]. Every token picks experts; each has `capacity` slots for a sample. See route.cpp.
Routes route(Graph& graph, ValueId logits, std::int64_t picks, std::int64_t capacity,
             const std::string& name);
// f32 [batch, seq]: what a token adds to the loss for the router's sake. See router_loss.cpp.
ValueId router_loss(Graph& graph, ValueId logits, ValueId load, double balance, double z,
                    const std::string& name);
// x: [batch, seq, columns]. Returns [expert, batch, slot, columns]: tokens in their slots, times their weights if there
// are any; zeros in empty ones.
ValueId dispatch(Graph& graph, ValueId x, ValueId slots, std::int64_t experts, std::int64_t capacity,
                 const std::string& name, std::optional<ValueId> weights = {});
// The opposite: a token is the (weighted) sum of its slots.
ValueId combine(Graph& graph, ValueId y, ValueId slots, std::optional<ValueId> weights,
                const std::string& name);

// ---- Axes ----

// The same elements in the same order under other axes; renaming an axis is the simplest case.
ValueId reshape(Graph& graph, ValueId x, const Dims& dims, const std::string& name);
ValueId rename(Graph& graph, ValueId x, const Axis& from, const Axis& to, const std::string& name);
// n tensors of one shape become [..., axis = n, ...] with the new axis at `position`.
ValueId stack(Graph& graph, const std::vector<ValueId>& parts, const Axis& axis, std::int64_t position,
              const std::string& name);
// One tensor an element of `axis`.
std::vector<ValueId> unstack(Graph& graph, ValueId x, const Axis& axis, const std::string& name);

// ---- The records ----

// <op>_record is what <op>.cpp says of the op: all but its name and its CUDA kernel, which registry.cpp adds. Nodes point to
// the one <op>_op.
#define TAKT_DECLARE_RECORD(op) \
  OpDef op##_record();          \
  const OpDef& op##_op();
TAKT_OPS(TAKT_DECLARE_RECORD)
#undef TAKT_DECLARE_RECORD

// Of train.numerics = "invariant", which GPUs do not have: not in the list, whose ops every device has.
const OpDef& carry_op();
const OpDef& digits_value_op();
const OpDef& exact_squares_op();

}  // namespace takt
