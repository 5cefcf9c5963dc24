// cross_entropy: loss[t] = m[t] + log s[t] - z[t]
//   m[t] = max_v x[t, v]  (reduce),  s[t] = sum_v exp(x[t, v] - m[t])  (sum_exp),  z[t] = x[t, target[t]]  (pick)
//
// Gradient  dx[t, v] = dy[t] (exp(x[t, v] - m[t]) / s[t] - [v = target[t]])  (cross_entropy_grad). It belongs to the
//           last node, which therefore reads the logits; m, s and z pass nothing back.
// Placement vocab may be sharded: m comes out a partial maximum, s and z partial sums, dx stays sharded. Padding at
//           the end of the vocabulary takes no part and gets a zero gradient.
// Cost      about 3 FLOPs a logit in the loss, 4 in the gradient. Memory bound.
// Source    Shoeybi et al. 2019, arXiv:1909.08053, section 3 (the vocabulary-parallel loss).
#include <algorithm>
#include <cmath>

#include "core/ops/op.h"
#include "core/ops/ordered_sum.h"
#include "core/ops/rows.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

// All four ops: logits, then tensors of one number a token, of which the targets are i32. One number a token comes out.
std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc& logits = args.input(0);
  require_rows(args, logits);
  for (std::size_t i = 1; i < args.inputs.size(); ++i)
    TAKT_REQUIRE(args.input(i).dims == without_last(logits).dims, "node '", args.name, "': ", args.input(i),
                 " must have the axes of the logits ", logits, " without the last");
  return {without_last(logits)};
}

// The classes of a row of logits that this rank has.
AxisRange vocab_of(const KernelNode& node) {
  return node.range(node.input(0), node.input(0).dims.back().axis);
}

// sum_exp(logits, m)
void reference_sum_exp(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t width = args.input(0).dims.back().extent;
  for (std::size_t i = 0; i < inputs[0]->data.size(); ++i)
    outputs[0].data[i / width] += std::exp(inputs[0]->data[i] - inputs[1]->data[i / width]);
}

// See ordered_sum.h; nothing is padded then.
Kernel cpu_sum_exp_in_pieces(const KernelNode& node) {
  const Rows rows = rows_of(node.input(0));
  const PiecedSum sum = pieced_sum(node, node.input(0), {node.input(0).dims.back().axis});
  const std::int64_t width = rows.width / sum.num_pieces;
  return parallel_kernel(node, rows.count, [=](const KernelArgs& k, std::int64_t t) {
    const float *row = k.input<float>(0) + t * rows.width, max = k.input<float>(1)[t];
    float levels[kMostLevels];
    tree_sum(0, sum.num_pieces, k.output<float>(0) + t, levels, 1, [&](std::int64_t piece, float* to) {
      const float* x = row + piece * width;
      *to = row_sum(width, [&](std::int64_t v) { return exp_cephes(x[v] - max); });
    });
  });
}

Kernel cpu_sum_exp(const KernelNode& node) {
  const Rows rows = rows_of(node.input(0));
  const std::int64_t num_valid = vocab_of(node).num_valid;
  if (node.attrs.has("pieces")) return cpu_sum_exp_in_pieces(node);
  return parallel_kernel(node, rows.count, [=](const KernelArgs& k, std::int64_t t) {
    const float *x = k.input<float>(0) + t * rows.width, max = k.input<float>(1)[t];
    k.output<float>(0)[t] = row_sum(num_valid, [&](std::int64_t v) { return exp_cephes(x[v] - max); });
  });
}

// pick(logits, targets)
std::vector<TensorDesc> infer_pick(const OpArgs& args) {
  TAKT_REQUIRE(args.input(1).dtype == DType::kI32, "node '", args.name, "': targets must be i32, got ",
               args.input(1));
  return infer(args);
}

void reference_pick(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t width = args.input(0).dims.back().extent;
  for (std::size_t t = 0; t < outputs[0].data.size(); ++t)
    outputs[0].data[t] = inputs[0]->data[t * width + static_cast<std::int64_t>(inputs[1]->data[t])];
}

Kernel cpu_pick(const KernelNode& node) {
  return [rows = rows_of(node.input(0)), vocab = vocab_of(node)](const KernelArgs& k) {
    for (std::int64_t t = 0; t < rows.count; ++t) {
      const std::int64_t v = k.input<std::int32_t>(1)[t] - vocab.offset;
      k.output<float>(0)[t] = v >= 0 && v < vocab.num_valid ? k.input<float>(0)[t * rows.width + v] : 0.0f;
    }
  };
}

// cross_entropy(logits, targets, m, s, z)
Gradients grad_loss(const GradArgs& args) {
  const std::vector<ValueId>& in = args.node.inputs;
  return append_gradient(args, cross_entropy_grad_op(), {in[0], in[1], in[2], in[3], dy_of(args)});
}

// The value needs no logits, only the gradient does: with a sharded vocabulary the result is whole.
std::vector<OpPlacement> placements_loss(const OpArgs& args) {
  return signatures_with_partial(AxisPlacement::replicated(), args);
}

void reference_loss(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t t = 0; t < outputs[0].data.size(); ++t)
    outputs[0].data[t] = inputs[2]->data[t] + std::log(inputs[3]->data[t]) - inputs[4]->data[t];
}

Kernel cpu_loss(const KernelNode& node) {
  return [rows = node.output(0).num_elements()](const KernelArgs& k) {
    for (std::int64_t t = 0; t < rows; ++t)
      k.output<float>(0)[t] = k.input<float>(2)[t] + std::log(k.input<float>(3)[t]) - k.input<float>(4)[t];
  };
}

// cross_entropy_grad(logits, targets, m, s, dy)
std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  infer(args);
  return {args.input(0)};
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t width = args.input(0).dims.back().extent;
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    const std::size_t t = i / width;
    const double hit = static_cast<double>(i % width) == inputs[1]->data[t] ? 1.0 : 0.0;
    outputs[0].data[i] =
        inputs[4]->data[t] * (std::exp(inputs[0]->data[i] - inputs[2]->data[t]) / inputs[3]->data[t] - hit);
  }
}

Kernel cpu_grad(const KernelNode& node) {
  const Rows rows = rows_of(node.input(0));
  const AxisRange vocab = vocab_of(node);
  return parallel_kernel(node, rows.count, [=](const KernelArgs& k, std::int64_t t) {
    const float* x = k.input<float>(0) + t * rows.width;
    float* dx = k.output<float>(0) + t * rows.width;
    const float max = k.input<float>(2)[t], dy = k.input<float>(4)[t], factor = dy / k.input<float>(3)[t];
    for (std::int64_t v = 0; v < vocab.num_valid; ++v) dx[v] = factor * exp_cephes(x[v] - max);
    std::fill(dx + vocab.num_valid, dx + rows.width, 0.0f);
    const std::int64_t target = k.input<std::int32_t>(1)[t] - vocab.offset;
    if (target >= 0 && target < vocab.num_valid) dx[target] -= dy;
  });
}

// The last node of these is cross_entropy, or the part of it that `builds` appends to the logits and targets.
Sample sample_of(ValueId (*builds)(Graph&, ValueId logits, ValueId targets)) {
  const TensorDesc logits{{{"batch", 4}, {"seq", 3}, {"vocab", 12}}},
      targets{{{"batch", 4}, {"seq", 3}}, DType::kI32};
  return sample(
      "12 classes", {{"x", logits}, {"targets", targets}},
      [builds](Graph& g, const auto& in) { builds(g, in[0], in[1]); }, 12);
}

ValueId build_sum_exp(Graph& g, ValueId logits, ValueId) {
  return g.append_one(sum_exp_op(), {logits, reduce(g, logits, {"vocab"}, ReduceOp::kMax, "m")}, {}, "s");
}
ValueId build_pick(Graph& g, ValueId logits, ValueId targets) {
  return g.append_one(pick_op(), {logits, targets}, {}, "z");
}
ValueId build_loss(Graph& g, ValueId logits, ValueId targets) {
  return cross_entropy(g, logits, targets, "loss");
}

}  // namespace

OpDef sum_exp_record() {
  return {.infer = infer,
          .flops_per_element = 3,
          .reference = reference_sum_exp,
          .cpu = {.prepare = cpu_sum_exp},
          .samples = {sample_of(build_sum_exp)}};
}

OpDef pick_record() {
  return {.infer = infer_pick,
          .flops_per_element = 3,
          .reference = reference_pick,
          .cpu = {.prepare = cpu_pick},
          .samples = {sample_of(build_pick)}};
}

OpDef cross_entropy_record() {
  return {.infer = infer,
          .grad = grad_loss,
          .flops_per_element = 3,
          .placements = placements_loss,
          .reference = reference_loss,
          .cpu = {.prepare = cpu_loss},
          .samples = {sample_of(build_loss)}};
}

OpDef cross_entropy_grad_record() {
  return {.infer = infer_grad,
          .flops_per_element = 4,
          .placement = {.linear_in = {{4}}},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad},
          .may_overwrite_input = true,
          .samples = with_gradient({sample_of(build_loss)})};
}

ValueId cross_entropy(Graph& graph, ValueId logits, ValueId targets, const std::string& name) {
  const ValueId max =
      reduce(graph, logits, {graph.value(logits).desc.dims.back().axis}, ReduceOp::kMax, name + ".max");
  const ValueId sum = graph.append_one(sum_exp_op(), {logits, max}, {}, name + ".sum_exp");
  const ValueId target = graph.append_one(pick_op(), {logits, targets}, {}, name + ".target");
  return graph.append_one(cross_entropy_op(), {logits, targets, max, sum, target}, {}, name);
}

}  // namespace takt
