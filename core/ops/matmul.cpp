// matmul: y[out] = act( sum_k a[..] b[..] + bias ),  an einsum over named axes
//
// Axes      in a, b and out: stacked (must lead everywhere); in a and out: rows; in b and out: columns;
//           in a and b only: contracted. Each group keeps its order and stays together in every tensor, so
//           that the whole is one (stacked) matrix product. Transposed storage of any operand is fine.
// Bias      f32; its axes are the column axes, and out ends with them.
// Dtypes    a and b are both f32 or both bf16; the result is as they are, or f32 by out_dtype. Sums are f32.
// Activation "gelu" or "silu": then output 1 is the value before it, which the gradient needs.
// Gradient  da = dy b, db = a dy, dbias = sum of dy; with d(pre) = act'(pre) dy first. Each has its operand's dtype.
// Placement stacked, row and column axes stay sharded; a sharded contraction gives a partial sum, in which the bias
//           must be partial too (kept on one rank); linear in a and in b, so partial sums pass through.
// Cost      2 m n k FLOPs a stack.
// Order     with "ordered" sums are taken as ordered_product.h says, in the pieces of ordered_sum.h if the node has some:
//           another kernel, whose bits do not depend on what of the product a rank has.
// Without bf16 instructions the operands are widened to f32 scratch and the f32 product is taken: exact, and the pass
// over the operands costs about 1 / min(m, n) of the product, but bf16 is then no faster than f32.
#include <algorithm>
#include <memory>

#include "core/device/onednn.h"
#include "core/ops/activation.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul_lowering.h"
#include "core/ops/op.h"
#include "core/ops/ordered_product.h"

namespace takt {
namespace {

struct Grouping {
  AxisNames stacked, rows, columns, contracted;
};

Grouping group_axes(const OpArgs& args) {
  const AxisNames& out = args.attrs.axes("out");
  const TensorDesc &a = args.input(0), &b = args.input(1);
  Grouping g;
  for (const Dim& dim : a.dims) {
    const bool in_b = b.has(dim.axis), in_out = contains(out, dim.axis);
    TAKT_REQUIRE(in_b || in_out, "matmul '", args.name, "': axis '", dim.axis, "' of a ", a,
                 " is neither in b ", b, " nor in the result; sum over it first");
    if (in_b)
      TAKT_REQUIRE(b.extent(dim.axis) == dim.extent, "matmul '", args.name, "': axis '", dim.axis,
                   "' differs, a is ", a, ", b is ", b);
    (in_b && in_out ? g.stacked : in_out ? g.rows : g.contracted).push_back(dim.axis);
  }
  for (const Dim& dim : b.dims)
    if (!a.has(dim.axis)) {
      TAKT_REQUIRE(contains(out, dim.axis), "matmul '", args.name, "': axis '", dim.axis, "' of b ", b,
                   " is neither in a ", a, " nor in the result; sum over it first");
      g.columns.push_back(dim.axis);
    }
  return g;
}

AxisNames joined(const AxisNames& a, const AxisNames& b, const AxisNames& c) {
  AxisNames names = a;
  names.insert(names.end(), b.begin(), b.end());
  names.insert(names.end(), c.begin(), c.end());
  return names;
}

// Is `axes` stacked+second+first (true) or stacked+first+second (false)? Anything else cannot be one product.
bool is_swapped(const OpArgs& args, const char* which, const AxisNames& axes, const AxisNames& stacked,
                const AxisNames& first, const AxisNames& second) {
  if (axes == joined(stacked, first, second)) return false;
  if (axes == joined(stacked, second, first)) return true;
  fail(
      Fault::kConfig, "matmul '", args.name, "': ", which, " mixes its axes, a is ", args.input(0), ", b is ",
      args.input(1),
      "\n  stacked axes must lead, and row, column and contracted axes must each stay together in one order");
}

}  // namespace

LoweredMatmul lower_matmul(const OpArgs& args) {
  const Grouping g = group_axes(args);
  const auto extent = [&](const AxisNames& names, std::size_t input) {
    std::int64_t product = 1;
    for (const Axis& name : names) product *= args.input(input).extent(name);
    return product;
  };
  LoweredMatmul lowered;
  MatmulShape& s = lowered.shape;
  s.batch = extent(g.stacked, 0);
  s.m = extent(g.rows, 0);
  s.n = extent(g.columns, 1);
  s.k = extent(g.contracted, 0);
  s.transpose_a = is_swapped(args, "a", names_of(args.input(0).dims), g.stacked, g.rows, g.contracted);
  s.transpose_b = is_swapped(args, "b", names_of(args.input(1).dims), g.stacked, g.contracted, g.columns);
  lowered.swapped_out = is_swapped(args, "the result", args.attrs.axes("out"), g.stacked, g.rows, g.columns);
  if (lowered.swapped_out) {
    std::swap(s.m, s.n);
    std::swap(s.transpose_a, s.transpose_b);
    s.transpose_a = !s.transpose_a;
    s.transpose_b = !s.transpose_b;
  }
  s.has_bias = args.inputs.size() == 3;
  s.dtype = args.input(0).dtype;
  s.out_dtype = out_dtype(args);
  return lowered;
}

namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc &a = args.input(0), &b = args.input(1);
  TAKT_REQUIRE(is_floating(a.dtype) && a.dtype == b.dtype, "matmul '", args.name, "': a is ", a, ", b is ", b,
               "; both must have the same floating type");
  TensorDesc y{.dims = {}, .dtype = out_dtype(args)};
  for (const Axis& axis : args.attrs.axes("out")) {
    TAKT_REQUIRE(a.has(axis) || b.has(axis), "matmul '", args.name, "': the result's axis '", axis,
                 "' is neither in a ", a, " nor in b ", b);
    y.dims.push_back({axis, a.has(axis) ? a.extent(axis) : b.extent(axis)});
  }
  const LoweredMatmul lowered = lower_matmul(args);
  if (args.inputs.size() == 3) {
    const TensorDesc& bias = args.input(2);
    TAKT_REQUIRE(!lowered.swapped_out && names_of(bias.dims) == group_axes(args).columns, "matmul '",
                 args.name, "': bias ", bias, " must have the column axes of b ", b,
                 ", and the result must end with them");
    TAKT_REQUIRE(bias.dtype == DType::kF32, "matmul '", args.name, "': the bias must be f32, got ", bias);
  }
  if (args.attrs.text("activation").empty()) return {y};
  return {y, y};
}

Gradients grad(const GradArgs& args) {
  const Node& node = args.node;
  Graph& graph = args.graph;
  ValueId dy = dy_of(args);
  const std::string& activation = node.attrs.text("activation");
  if (!activation.empty())
    dy = activation_grad(graph, node.outputs[1], dy, activation, "d." + node.name + ".pre");
  const ValueId a = node.inputs[0], b = node.inputs[1];
  const std::string prefix = "d." + node.name;
  std::optional<ValueId> dbias;
  if (node.inputs.size() == 3) {
    const AxisNames summed = axes_without(graph.value(dy).desc.dims, graph.value(node.inputs[2]).desc.dims);
    dbias = reduce(graph, dy, summed, ReduceOp::kSum, prefix + ".bias", DType::kF32);
  }
  const DType dtype = graph.value(a).desc.dtype;
  if (graph.value(dy).desc.dtype != dtype) dy = cast(graph, dy, dtype, prefix + ".cast");
  Gradients grads = {matmul(graph, dy, b, names_of(graph.value(a).desc.dims), prefix + ".a"),
                     matmul(graph, a, dy, names_of(graph.value(b).desc.dims), prefix + ".b")};
  if (dbias) grads.push_back(dbias);
  return grads;
}

Cost cost(const OpArgs& args) {
  const MatmulShape s = lower_matmul(args).shape;
  return cost_of_traffic(args, 2.0 * static_cast<double>(s.batch * s.m * s.n) * static_cast<double>(s.k));
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  const Grouping g = group_axes(args);
  const bool has_bias = args.inputs.size() == 3;
  std::vector<OpPlacement> signatures = {replicated_rule(args)};
  for (const Axis& axis : joined(g.stacked, g.rows, g.columns)) signatures.push_back(split_rule(args, axis));
  if (!args.attrs.text("activation").empty()) return signatures;  // what follows passes partial sums on
  for (const Axis& axis : g.contracted) {
    signatures.push_back(split_rule(args, axis));
    if (has_bias) signatures.back().inputs[2] = AxisPlacement::partial();
  }
  signatures.push_back(has_bias ? linear_rule(args, {0, 2}) : linear_rule(args, {0}));
  signatures.push_back(has_bias ? linear_rule(args, {1, 2}) : linear_rule(args, {1}));
  return signatures;
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  // One odometer over all axes: out axes first, then the contracted ones.
  Dims loop = outputs[0].dims;
  for (const Axis& axis : group_axes(args).contracted) loop.push_back({axis, args.input(0).extent(axis)});
  const auto offset = [&](const Dims& dims, const std::vector<std::int64_t>& at) {
    std::int64_t offset_elements = 0;
    for (const Dim& dim : dims)
      offset_elements = offset_elements * dim.extent + at[find_axis(loop, dim.axis)];
    return offset_elements;
  };
  std::vector<std::int64_t> at(loop.size(), 0);
  for (std::int64_t i = 0; i < num_elements(loop); ++i) {
    std::int64_t rest = i;
    for (std::size_t d = loop.size(); d-- > 0; rest /= loop[d].extent) at[d] = rest % loop[d].extent;
    outputs[0].data[offset(outputs[0].dims, at)] +=
        inputs[0]->data[offset(inputs[0]->dims, at)] * inputs[1]->data[offset(inputs[1]->dims, at)];
  }
  if (inputs.size() == 3)
    for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
      outputs[0].data[i] += inputs[2]->data[i % inputs[2]->data.size()];
  const std::string& activation = args.attrs.text("activation");
  if (activation.empty()) return;
  outputs[1].data = outputs[0].data;
  for (double& y : outputs[0].data) y = activation_reference(activation, y);
}

constexpr std::size_t kAlign = 64;
std::size_t aligned(std::size_t num_bytes) {
  return (num_bytes + kAlign - 1) / kAlign * kAlign;
}

// The product and what its scratch holds: oneDNN's own, then f32 copies of a, b and, if it is bf16, the result.
struct Product {
  MatmulShape shape;
  bool widens, rounds;
  OnednnMatmul matmul;

  Product(const MatmulShape& of, int num_threads)
      : shape(of),
        widens(of.dtype == DType::kBF16 && !onednn_has_bf16()),
        rounds(widens && of.out_dtype == DType::kBF16),
        matmul(widens ? in_f32(of) : of, num_threads) {}

  static MatmulShape in_f32(MatmulShape shape) {
    shape.dtype = shape.out_dtype = DType::kF32;
    return shape;
  }
  std::int64_t num_a() const { return shape.batch * shape.m * shape.k; }
  std::int64_t num_b() const { return shape.batch * shape.k * shape.n; }
  std::int64_t num_y() const { return shape.batch * shape.m * shape.n; }
  std::size_t own_bytes() const { return aligned(matmul.scratch_bytes()); }
  std::size_t a_bytes() const { return widens ? aligned(num_a() * sizeof(float)) : 0; }
  std::size_t b_bytes() const { return widens ? aligned(num_b() * sizeof(float)) : 0; }
  std::size_t y_bytes() const { return rounds ? aligned(num_y() * sizeof(float)) : 0; }
  std::size_t scratch_bytes() const { return own_bytes() + a_bytes() + b_bytes() + y_bytes(); }

  void run(const void* a, const void* b, const void* bias, void* y, void* scratch, int num_threads) {
    if (!widens) return matmul.run(a, b, bias, y, scratch);
    auto* const copies = static_cast<std::byte*>(scratch) + own_bytes();
    auto *wide_a = reinterpret_cast<float*>(copies), *wide_b = reinterpret_cast<float*>(copies + a_bytes());
    void* const wide_y = rounds ? copies + a_bytes() + b_bytes() : y;
    convert(static_cast<const BF16*>(a), wide_a, num_a(), num_threads);
    convert(static_cast<const BF16*>(b), wide_b, num_b(), num_threads);
    matmul.run(wide_a, wide_b, bias, wide_y, scratch);
    if (rounds) convert(static_cast<float*>(wide_y), static_cast<BF16*>(y), num_y(), num_threads);
  }
};

OrderedProduct ordered_product(const KernelNode& node, const MatmulShape& shape) {
  return {shape, pieced_sum(node, node.input(0), group_axes(node).contracted), node.num_threads};
}

std::size_t scratch(const KernelNode& node) {
  if (node.attrs.flag("ordered")) return ordered_product(node, lower_matmul(node).shape).scratch_bytes();
  return Product(lower_matmul(node).shape, node.num_threads).scratch_bytes();
}

// a, b, bias, y, scratch
using Multiply = std::function<void(const void*, const void*, const void*, void*, void*)>;

Multiply multiplier(const KernelNode& node, const MatmulShape& shape) {
  if (node.attrs.flag("ordered"))
    return [product = ordered_product(node, shape)](const void* a, const void* b, const void* bias, void* y,
                                                    void* scratch) { product.run(a, b, bias, y, scratch); };
  return [product = std::make_shared<Product>(shape, node.num_threads), num_threads = node.num_threads](
             const void* a, const void* b, const void* bias, void* y, void* scratch) {
    product->run(a, b, bias, y, scratch, num_threads);
  };
}

Kernel cpu(const KernelNode& node) {
  const LoweredMatmul lowered = lower_matmul(node);
  const Multiply multiply = multiplier(node, lowered.shape);
  const bool swapped = lowered.swapped_out, has_bias = lowered.shape.has_bias;
  const std::string activation = node.attrs.text("activation");
  Kernel activate;
  if (!activation.empty()) {
    KernelNode epilogue = node;
    epilogue.inputs = {node.output(1)};
    epilogue.outputs = {node.output(0)};
    activate = activation_kernel(activation, epilogue);
  }
  return [=](const KernelArgs& k) {
    void* result = k.outputs[activate ? 1 : 0];
    multiply(k.inputs[swapped ? 1 : 0], k.inputs[swapped ? 0 : 1], has_bias ? k.inputs[2] : nullptr, result,
             k.scratch);
    if (!activate) return;
    void* const pre[] = {result};
    activate({.inputs = pre, .outputs = k.outputs.first(1)});
  };
}

// A bias without axes: none.
Sample sample_of(const std::string& name, const Dims& x, const Dims& w, const AxisNames& out,
                 const Dims& bias = {}, const MatmulOptions& options = {}) {
  std::vector<SampleInput> inputs = {{"x", {x}}, {"w", {w}}};
  if (!bias.empty()) inputs.push_back({"bias", {bias}});
  return sample(name, inputs, [out, options](Graph& g, const auto& in) {
    MatmulOptions with_bias = options;
    if (in.size() == 3) with_bias.bias = in[2];
    matmul(g, in[0], in[1], out, "y", with_bias);
  });
}

std::vector<Sample> samples() {
  const Dims x = {{"batch", 4}, {"embed", 8}}, tokens = {{"batch", 4}, {"seq", 3}, {"embed", 8}};
  return {sample_of("projection", tokens, {{"heads", 4}, {"head_dim", 2}, {"embed", 8}},
                    {"batch", "seq", "heads", "head_dim"}),
          sample_of("to f32", x, {{"vocab", 12}, {"embed", 8}}, {"batch", "vocab"}, {},
                    {.out_dtype = DType::kF32}),
          sample_of("contraction of two axes with bias",
                    {{"batch", 4}, {"seq", 2}, {"heads", 4}, {"head_dim", 2}},
                    {{"heads", 4}, {"head_dim", 2}, {"embed", 8}}, {"batch", "seq", "embed"}, {{"embed", 8}}),
          sample_of("bias and gelu", x, {{"embed", 8}, {"mlp", 12}}, {"batch", "mlp"}, {{"mlp", 12}},
                    {.activation = "gelu"}),
          sample_of("stacked, result transposed", tokens, {{"batch", 4}, {"mlp", 4}, {"embed", 8}},
                    {"batch", "mlp", "seq"})};
}

}  // namespace

OpDef matmul_record() {
  return {.infer = infer,
          .grad = grad,
          .cost = cost,
          .placements = placements,
          .f32_inputs = {2},
          .reference = reference,
          .cpu = {.prepare = cpu, .scratch_bytes = scratch, .bf16 = true},
          .samples = samples()};
}

ValueId matmul(Graph& graph, ValueId a, ValueId b, const AxisNames& out, const std::string& name,
               const MatmulOptions& options) {
  std::vector<ValueId> inputs = {a, b};
  if (options.bias) inputs.push_back(*options.bias);
  Attrs attrs = {{"out", out}, {"activation", options.activation}};
  if (options.out_dtype) attrs.set("out_dtype", *options.out_dtype);
  return graph.append(matmul_op(), inputs, attrs, name).front();
}

}  // namespace takt
