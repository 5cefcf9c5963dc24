// reduce: y[o, i] = sum_r x[o, r, i]  or  max_r x[o, r, i];    broadcast: y[o, r, i] = x[o, i]
//
// Gradient  the two are each other's gradient; the maximum is not differentiated.
// Placement a sharded reduced axis gives a partial sum or maximum. Padding along it does not count.
// Order     in pieces, see ordered_sum.h, where the node has some: then each piece is rounded to f32.
// Dtypes    f32 or bf16; the result is as x is, or f32 by out_dtype. Sums are double.
// Cost      one FLOP an element of x. Memory bound.
#include <algorithm>
#include <cstring>
#include <limits>

#include "core/ops/elementwise.h"
#include "core/ops/op.h"
#include "core/ops/ordered_sum.h"
#include "core/ops/rows.h"

namespace takt {
namespace {

Split split_reduce(const OpArgs& args) {
  return split_around(args, args.input(0).dims, args.attrs.axes("axes"));
}

Split split_broadcast(const OpArgs& args) {
  const Dims& dims = args.attrs.dims("dims");
  return split_around(args, dims, axes_without(dims, args.input(0).dims));
}

bool is_max(const OpArgs& args) {
  return args.attrs.text("op") == "max";
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  const AxisNames& axes = args.attrs.axes("axes");
  for (const Axis& axis : axes)
    TAKT_REQUIRE(args.input(0).has(axis), "reduce '", args.name, "': x ", args.input(0), " has no axis '",
                 axis, "'");
  split_reduce(args);
  TensorDesc y{.dims = {}, .dtype = out_dtype(args)};
  for (const Dim& dim : args.input(0).dims)
    if (!contains(axes, dim.axis)) y.dims.push_back(dim);
  return {y};
}

Gradients grad(const GradArgs& args) {
  TAKT_REQUIRE(args.node.attrs.text("op") == "sum", "reduce '", args.node.name,
               "': the maximum is not differentiated");
  return {broadcast(args.graph, dy_of(args), args.graph.value(args.node.inputs[0]).desc.dims,
                    "d." + args.node.name)};
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  return is_max(args) ? signatures_with_partial(AxisPlacement::partial(ReduceOp::kMax), args)
                      : signatures_by({.linear_in = {{0}}}, args);
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Split s = split_reduce(args);
  const bool max = is_max(args);
  for (std::int64_t o = 0; o < s.outer; ++o)
    for (std::int64_t i = 0; i < s.inner; ++i) {
      double& y = outputs[0].data[o * s.inner + i];
      y = max ? -std::numeric_limits<double>::infinity() : 0.0;
      for (std::int64_t r = 0; r < s.middle; ++r) {
        const double x = inputs[0]->data[(o * s.middle + r) * s.inner + i];
        y = max ? std::max(y, x) : y + x;
      }
    }
}

// Which of a row's reduced elements exist on this rank: those before `count`, and of them, where a padded
// axis lies inside others, those that `skips` does not name.
struct Existing {
  std::int64_t count = 0;
  std::int64_t stride = 1, extent = 1, num_valid = 1;  // of the padded axis, in reduced elements
  bool skips(std::int64_t r) const { return num_valid < extent && r / stride % extent >= num_valid; }
};

Existing existing(const KernelNode& node) {
  Existing e;
  std::int64_t stride = 1;
  const TensorDesc& x = node.input(0);
  for (std::size_t d = x.dims.size(); d-- > 0;) {
    if (!contains(node.attrs.axes("axes"), x.dims[d].axis)) continue;
    const std::int64_t extent = x.dims[d].extent, num_valid = node.range(x, x.dims[d].axis).num_valid;
    if (num_valid < extent) e = {0, stride, extent, num_valid};
    stride *= extent;
  }
  const bool is_outermost = e.stride * e.extent == stride;
  return is_outermost ? Existing{stride / e.extent * e.num_valid}
                      : Existing{stride, e.stride, e.extent, e.num_valid};
}

constexpr float kLowest = std::numeric_limits<float>::lowest();
constexpr auto kLarger = [](float a, float b) { return std::max(a, b); };

// y[i] = the sum or maximum over rows of `columns` <= kColumns neighbours, `inner` apart. Long sums are kept in double.
template <class T, class Out, class Accumulator, class Op>
void reduce_columns(const T* x, Out* y, std::int64_t inner, std::int64_t columns, const Existing& e,
                    Accumulator start, const Op& op) {
  Accumulator values[kColumns];
  std::fill(values, values + columns, start);
  for (std::int64_t r = 0; r < e.count; ++r) {
    if (e.skips(r)) continue;
    for (std::int64_t i = 0; i < columns; ++i)
      values[i] = op(values[i], static_cast<Accumulator>(to_float(x[r * inner + i])));
  }
  for (std::int64_t i = 0; i < columns; ++i) y[i] = stored<Out>(static_cast<float>(values[i]));
}

template <class T, class Out>
void reduce_row(const T* x, Out* y, std::int64_t inner, const Existing& e, bool max) {
  if (max && inner == 1 && e.extent == 1) {
    const auto at = [x](std::int64_t i) {
      return to_float(x[i]);
    };  // the last axis: columns would be too short
    *y = stored<Out>(fold(e.count, kLowest, kLarger, at));
    return;
  }
  for (std::int64_t first = 0; first < inner; first += kColumns) {
    const std::int64_t columns = std::min(kColumns, inner - first);
    if (max)
      reduce_columns(x + first, y + first, inner, columns, e, kLowest, kLarger);
    else
      reduce_columns(x + first, y + first, inner, columns, e, 0.0, std::plus());
  }
}

// The same columns, summed in pieces.
template <class T, class Out>
void reduce_pieces(const T* x, Out* y, std::int64_t inner, std::int64_t columns, const PiecedSum& sum) {
  float total[kColumns], levels[kMostLevels * kColumns];
  tree_sum(0, sum.num_pieces, total, levels, columns, [&](std::int64_t piece, float* to) {
    double values[kColumns] = {};
    sum.for_each(piece, [&](std::int64_t r) {
      for (std::int64_t i = 0; i < columns; ++i) values[i] += static_cast<double>(to_float(x[r * inner + i]));
    });
    for (std::int64_t i = 0; i < columns; ++i) to[i] = static_cast<float>(values[i]);
  });
  for (std::int64_t i = 0; i < columns; ++i) y[i] = stored<Out>(total[i]);
}

Kernel cpu_in_pieces(const KernelNode& node) {
  const Split s = split_reduce(node);
  const PiecedSum sum = pieced_sum(node, node.input(0), node.attrs.axes("axes"));
  const std::int64_t blocks = (s.inner + kColumns - 1) / kColumns;
  return with_floating(node.input(0).dtype, node.output(0).dtype, [&](auto in, auto out) {
    return parallel_kernel(node, s.outer * blocks, [=](const KernelArgs& k, std::int64_t task) {
      const std::int64_t o = task / blocks, first = task % blocks * kColumns;
      reduce_pieces(k.input<decltype(in)>(0) + o * s.middle * s.inner + first,
                    k.output<decltype(out)>(0) + o * s.inner + first, s.inner,
                    std::min(kColumns, s.inner - first), sum);
    });
  });
}

Kernel cpu(const KernelNode& node) {
  if (node.attrs.has("pieces")) return cpu_in_pieces(node);
  const Split s = split_reduce(node);
  return with_floating(node.input(0).dtype, node.output(0).dtype, [&](auto in, auto out) {
    return parallel_kernel(node, s.outer,
                           [s, e = existing(node), max = is_max(node)](const KernelArgs& k, std::int64_t o) {
                             reduce_row(k.input<decltype(in)>(0) + o * s.middle * s.inner,
                                        k.output<decltype(out)>(0) + o * s.inner, s.inner, e, max);
                           });
  });
}

std::vector<TensorDesc> infer_broadcast(const OpArgs& args) {
  const Dims& dims = args.attrs.dims("dims");
  for (const Dim& dim : args.input(0).dims)
    TAKT_REQUIRE(find_axis(dims, dim.axis) >= 0, "broadcast '", args.name, "': x ", args.input(0),
                 " does not fit into ", to_string(dims));
  split_broadcast(args);
  return {{dims, args.input(0).dtype}};
}

Gradients grad_broadcast(const GradArgs& args) {
  const Dims& x = args.graph.value(args.node.inputs[0]).desc.dims;
  const AxisNames added = axes_without(args.node.attrs.dims("dims"), x);
  return {reduce(args.graph, dy_of(args), added, ReduceOp::kSum, "d." + args.node.name)};
}

void reference_broadcast(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Split s = split_broadcast(args);
  for (std::int64_t o = 0; o < s.outer; ++o)
    for (std::int64_t r = 0; r < s.middle; ++r)
      for (std::int64_t i = 0; i < s.inner; ++i)
        outputs[0].data[(o * s.middle + r) * s.inner + i] = inputs[0]->data[o * s.inner + i];
}

Kernel cpu_broadcast(const KernelNode& node) {
  const Split s = split_broadcast(node);
  if (s.inner == 1 && node.input(0).dtype == DType::kF32)  // one number a row: too short for copies
    return parallel_kernel(node, s.outer, [s](const KernelArgs& k, std::int64_t o) {
      std::fill_n(k.output<float>(0) + o * s.middle, s.middle, k.input<float>(0)[o]);
    });
  const std::size_t bytes = s.inner * num_bytes(node.input(0).dtype);
  return parallel_kernel(node, s.outer, [s, bytes](const KernelArgs& k, std::int64_t o) {
    for (std::int64_t r = 0; r < s.middle; ++r)
      std::memcpy(k.output<std::byte>(0) + (o * s.middle + r) * bytes, k.input<std::byte>(0) + o * bytes,
                  bytes);
  });
}

const Dims kDims = {{"batch", 4}, {"seq", 4}, {"embed", 8}};

Sample reduction(const std::string& name, const AxisNames& axes, ReduceOp op,
                 std::optional<DType> out_dtype = {}) {
  return sample(name, {{"x", {kDims}}},
                [=](Graph& g, const auto& in) { reduce(g, in[0], axes, op, "y", out_dtype); });
}

Sample repetition(const std::string& name, const Dims& x) {
  return sample(name, {{"x", {x}}}, [](Graph& g, const auto& in) { broadcast(g, in[0], kDims, "y"); });
}

}  // namespace

OpDef reduce_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 1,
          .placements = placements,
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .samples = {reduction("sum of leading axes", {"batch", "seq"}, ReduceOp::kSum),
                      reduction("sum of a middle axis", {"seq"}, ReduceOp::kSum),
                      reduction("sum to f32", {"batch", "seq"}, ReduceOp::kSum, DType::kF32),
                      reduction("sum of all", {"batch", "seq", "embed"}, ReduceOp::kSum),
                      reduction("maximum of the last axis", {"embed"}, ReduceOp::kMax)}};
}

OpDef broadcast_record() {
  return {.infer = infer_broadcast,
          .grad = grad_broadcast,
          .placement = {.linear_in = {{0}}},
          .reference = reference_broadcast,
          .cpu = {.prepare = cpu_broadcast, .bf16 = true},
          .samples = {repetition("scalar", {}), repetition("middle axis", {{"batch", 4}, {"embed", 8}})}};
}

ValueId reduce(Graph& graph, ValueId x, const AxisNames& axes, ReduceOp op, const std::string& name,
               std::optional<DType> out_dtype) {
  Attrs attrs = {{"axes", axes}, {"op", std::string(op == ReduceOp::kMax ? "max" : "sum")}};
  if (out_dtype) attrs.set("out_dtype", *out_dtype);
  return graph.append_one(reduce_op(), {x}, attrs, name);
}

ValueId broadcast(Graph& graph, ValueId x, const Dims& dims, const std::string& name) {
  return graph.append_one(broadcast_op(), {x}, {{"dims", dims}}, name);
}

}  // namespace takt
