// ordered_sums: which nodes sum over what is the table below; everything else is one element or one row at a time.
#include "core/passes/ordered_sums.h"

#include <algorithm>
#include <array>
#include <optional>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"
#include "core/ops/shape_rules.h"
#include "core/passes/numerics.h"

namespace takt {
namespace {

// Axes that tensor parallelism cuts. Products over seq are of gradients of weights: they take whole sequences.
constexpr std::array<std::string_view, 4> kOfProducts = {"heads", "kv_heads", "mlp", "vocab"};
constexpr std::array<std::string_view, 5> kOfSums = {"heads", "kv_heads", "mlp", "vocab", "seq"};

template <std::size_t n>
std::optional<Axis> first_of(const AxisNames& axes, const std::array<std::string_view, n>& names) {
  for (const Axis& axis : axes)
    if (std::find(names.begin(), names.end(), axis.str()) != names.end()) return axis;
  return std::nullopt;
}

AxisNames contracted(const OpArgs& args) {
  AxisNames axes;
  for (const Dim& dim : args.input(0).dims)
    if (args.input(1).has(dim.axis) && !contains(args.attrs.axes("out"), dim.axis)) axes.push_back(dim.axis);
  return axes;
}

// The axis that the node sums over and a mesh may cut. A look-up sums rows of which all but one are zeros: exactly.
std::optional<Axis> summed_axis(const Node& node, const OpArgs& args) {
  if (node.op == &matmul_op())
    return args.attrs.text("activation").empty() ? first_of(contracted(args), kOfProducts) : std::nullopt;
  if (node.op == &attention_grad_op()) return Axis("heads");
  if (node.op == &sum_exp_op() || node.op == &pick_op()) return args.input(0).dims.back().axis;
  if (node.op == &embedding_op()) return args.input(0).dims.front().axis;
  if (node.op == &norm_grad_op()) return first_of(names_of(args.input(1).dims), std::array{kOfSums.back()});
  if (node.op == &reduce_op() && args.attrs.text("op") == "sum")
    return first_of(args.attrs.axes("axes"), kOfSums);
  return std::nullopt;
}

bool is_product(const Node& node) {
  return node.op == &matmul_op() || node.op == &attention_op() || node.op == &attention_grad_op();
}

class Marker {
 public:
  explicit Marker(const Graph& from) : from_(from), rewriter_(from) {}

  Graph run() && {
    for (const Node& node : from_.nodes()) take_over(node);
    return std::move(rewriter_).finish();
  }

 private:
  void take_over(const Node& node) {
    const OpArgs args = from_.args_of(node);
    const std::optional<Axis> axis = summed_axis(node, args);
    if (!axis && !is_product(node)) return rewriter_.copy(node);
    Attrs attrs = node.attrs;
    if (is_product(node)) attrs.set("ordered", true);
    if (axis) {
      attrs.set("piece_axis", *axis);
      attrs.set("pieces", pieces_of(extent_of(args, *axis)));
    }
    rewriter_.graph().set_tag(node.tag);
    if (axis && node.op == &matmul_op())
      append_product(node, std::move(attrs));
    else
      append_like(node, std::move(attrs));
  }

  static std::int64_t extent_of(const OpArgs& args, const Axis& axis) {
    for (const TensorDesc& input : args.inputs)
      if (input.has(axis)) return input.extent(axis);
    fail(Fault::kBug, "ordered_sums: no input of '", args.name, "' has axis '", axis, "'");
  }

  std::vector<ValueId> inputs_of(const Node& node) {
    std::vector<ValueId> inputs;
    for (const ValueId id : node.inputs) inputs.push_back(rewriter_.at(id));
    return inputs;
  }

  // The sum, and what is done to it when it is complete.
  void append_product(const Node& node, Attrs attrs) {
    Graph& graph = rewriter_.graph();
    std::vector<ValueId> inputs = inputs_of(node);
    std::optional<ValueId> bias;
    if (inputs.size() == 3) bias = inputs.back();
    inputs.resize(2);
    attrs.set("out_dtype", DType::kF32);
    ValueId y = graph.append_one(matmul_op(), inputs, attrs, node.name + ".sum");
    if (bias) y = add(graph, {y, *bias}, node.name + ".biased");
    take_place(node.outputs[0], y);
  }

  void append_like(const Node& node, Attrs attrs) {
    const std::vector<ValueId> outputs =
        rewriter_.graph().append(*node.op, inputs_of(node), std::move(attrs), node.name);
    for (std::size_t i = 0; i < outputs.size(); ++i)
      take_place(node.outputs[i], is_gradient_of_weight(node, i) ? completed(outputs[i]) : outputs[i]);
  }

  // May go into an accumulator as it is: a sum over samples as well as over seq.
  static bool is_gradient_of_weight(const Node& node, std::size_t output) {
    return node.op == &reduce_op() || (node.op == &norm_grad_op() && output > 0);
  }

  // A sum that nothing but itself depends on may be completed over data first, which is another order. A node that does
  // nothing stands between, for which it is complete over tensor.
  ValueId completed(ValueId sum) {
    Graph& graph = rewriter_.graph();
    const std::string name = graph.value(sum).name;
    graph.value(sum).name = name + ".sum";
    return scale(graph, sum, 1.0, name + ".complete");
  }

  // `now`, in the dtype and under the name of `old`.
  void take_place(ValueId old, ValueId now) {
    Graph& graph = rewriter_.graph();
    const Value& wanted = from_.value(old);
    if (graph.value(now).desc.dtype != wanted.desc.dtype) {
      graph.value(now).name = wanted.name + ".f32";
      now = cast(graph, now, wanted.desc.dtype, wanted.name);
    }
    graph.value(now).name = wanted.name;
    rewriter_.redirect(old, now);
  }

  const Graph& from_;
  Rewriter rewriter_;
};

bool is_sum(const AxisPlacement& placement) {
  return placement.is_partial() && placement.reduce == ReduceOp::kSum;
}

bool has_sum(const std::vector<AxisPlacement>& placements) {
  return std::any_of(placements.begin(), placements.end(), is_sum);
}

bool keeps_order_over_tensor(const OpArgs& args, const OpPlacement& placement) {
  if (has_sum(placement.inputs)) return false;
  if (!has_sum(placement.outputs)) return true;
  if (!args.attrs.has("piece_axis")) return false;
  return std::any_of(placement.inputs.begin(), placement.inputs.end(), [&](const AxisPlacement& input) {
    return input.is_sharded() && input.axis == args.attrs.axis("piece_axis");
  });
}

// Has every rank the samples of its own?
bool keeps_samples(const std::vector<TensorDesc>& tensors, const std::vector<AxisPlacement>& placements) {
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].has("batch") && placements[i] != AxisPlacement::sharded("batch")) return false;
  return true;
}

}  // namespace

Graph with_ordered_sums(const Graph& lowered) {
  return Marker(lowered).run();
}

bool keeps_order(const OpDef& op, const OpArgs& args, const OpPlacement& placement,
                 const ShardingRules& rules, const MeshAxis& mesh_axis) {
  if (mesh_axis.name == "tensor") return keeps_order_over_tensor(args, placement);
  if (op.defers_reduction && has_sum(placement.inputs) && is_storage(rules, mesh_axis, Role::kAccumulator))
    return false;
  return keeps_samples(args.inputs, placement.inputs) && keeps_samples(args.outputs, placement.outputs);
}

}  // namespace takt
