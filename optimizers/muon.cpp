// muon: momentum, made orthogonal, for the hidden matrices; AdamW for the rest
//
//   muon_direction   m = momentum m + factor grad;   d = factor grad + momentum m (Nesterov)
//   newton_schulz    o = d with singular values near 1
//   muon             p = p - lr ( 0.2 sqrt(max(rows, columns)) o + decay p )
//
// The factor gives o the root mean square of AdamW's steps, so that lr and decay are AdamW's and one of each serves all.
// Matrices of one shape are stacked and dealt to ranks: orthogonalizing wants whole matrices, which in the graph is no
// more than a placement (newton_schulz.cpp). With the state sharded they travel twice, by all-to-alls: to the rank that
// has the whole matrix, and back to where the parameter lies.
// An update whose factor is not finite leaves everything as it was.
// Source    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the factor and the decay:
//           Liu et al. 2025, arXiv:2502.16982.
#include "optimizers/muon.h"

#include <algorithm>
#include <cmath>

#include "core/ops/builders.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/parallel_for.h"
#include "core/ops/placement_rules.h"
#include "core/ops/shape_rules.h"
#include "optimizers/newton_schulz.h"

namespace takt {
namespace {

constexpr double kRootMeanSquare = 0.2;
const Axis kMatrix = "matrix";  // along which parameters of one shape are stacked

std::vector<TensorDesc> infer_direction(const OpArgs& args) {
  TAKT_REQUIRE(args.input(0) == args.input(1), args.name, ": gradient and momentum differ, ", args.input(0),
               " and ", args.input(1));
  return {args.input(0), args.input(0)};
}

void reference_direction(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const double momentum = args.attrs.number("momentum");
  for (std::size_t i = 0; i < out[0].data.size(); ++i) {
    const double g = in[2]->data[0] * in[0]->data[i];
    out[1].data[i] = momentum * in[1]->data[i] + g;
    out[0].data[i] = g + momentum * out[1].data[i];
  }
}

Kernel cpu_direction(const KernelNode& node) {
  const auto momentum = static_cast<float>(node.attrs.number("momentum"));
  return [=, n = node.input(0).num_elements(), threads = node.num_threads](const KernelArgs& k) {
    const float factor = k.input<float>(2)[0], *grad = k.input<float>(0);
    float *d = k.output<float>(0), *m = k.output<float>(1);
    if (!std::isfinite(factor)) {
      std::fill_n(d, n, 0.0f);
      return;
    }
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {  // d may lie where the gradient does
        const float g = factor * grad[i];
        m[i] = momentum * m[i] + g;
        d[i] = g + momentum * m[i];
      }
    });
  };
}

// One of the stacked directions is the parameter's.
std::vector<TensorDesc> infer(const OpArgs& args) {
  TensorDesc one = args.input(1);
  one.dims.erase(one.dims.begin());
  TAKT_REQUIRE(one == args.input(0), args.name, ": parameter and stacked directions differ, ", args.input(0),
               " and ", args.input(1));
  return {args.input(0)};
}

// It reads one of the directions.
Cost cost(const OpArgs& args) {
  const auto elements = static_cast<double>(args.input(0).num_elements());
  return {.flops = 4 * elements, .bytes_read = 8 * elements, .bytes_written = 4 * elements};
}

void reference(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const double scale = args.attrs.number("scale"), decay = args.attrs.number("decay"), lr = in[2]->data[0];
  const std::size_t n = out[0].data.size(), start = n * static_cast<std::size_t>(args.attrs.integer("index"));
  for (std::size_t i = 0; i < n; ++i)
    out[0].data[i] = in[0]->data[i] - lr * (scale * in[1]->data[start + i] + decay * in[0]->data[i]);
}

Kernel cpu(const KernelNode& node) {
  const auto scale = static_cast<float>(node.attrs.number("scale")),
             decay = static_cast<float>(node.attrs.number("decay"));
  const std::int64_t n = node.input(0).num_elements(), start = n * node.attrs.integer("index");
  return [=, threads = node.num_threads](const KernelArgs& k) {
    const float lr = k.input<float>(2)[0], *o = k.input<float>(1) + start;
    if (!std::isfinite(k.input<float>(3)[0])) return;
    float* p = k.output<float>(0);
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) p[i] -= lr * (scale * o[i] + decay * p[i]);
    });
  };
}

const TensorDesc kSample{{{"embed", 4}, {"mlp", 8}}, DType::kF32};

void build_direction(Graph& g) {
  const ValueId grad = g.input("grad", kSample), m = g.input("m", kSample);
  g.append(muon_direction_op(), {grad, m, g.input("factor", {})}, {{"momentum", 0.95}}, "direction");
}

void build_update(Graph& g) {
  const ValueId p = g.input("p", kSample),
                o = g.input("o", {{{kMatrix, 3}, {"embed", 4}, {"mlp", 8}}, DType::kF32});
  const ValueId hyper = g.input("hyper", {{{"hyper", 3}}, DType::kF32}), factor = g.input("factor", {});
  g.append(muon_op(), {p, o, hyper, factor}, {{"scale", 0.6}, {"decay", 0.1}, {"index", std::int64_t{1}}},
           "update");
}

// ---- From parameters to matrices and back ----

// Puts `axis` at `position`, by taking the tensor apart.
ValueId move_axis(Graph& graph, ValueId x, const Axis& axis, std::int64_t position, const std::string& name) {
  if (find_axis(graph.value(x).desc.dims, axis) == position) return x;
  return stack(graph, unstack(graph, x, axis, name + ".part"), axis, position, name);
}

std::int64_t extent_of(const Dims& dims, const AxisNames& axes) {
  std::int64_t extent = 1;
  for (const Dim& dim : dims)
    if (contains(axes, dim.axis)) extent *= dim.extent;
  return extent;
}

double scale_of(const Dims& dims, const MatrixAxes& axes) {
  const std::int64_t longer = std::max(extent_of(dims, axes.rows), extent_of(dims, axes.columns));
  return kRootMeanSquare * std::sqrt(static_cast<double>(longer));
}

// [matrix, the parameters' axes], made orthogonal matrix by matrix.
ValueId orthogonal_directions(Graph& graph, ValueId x, const MatrixAxes& axes, const std::string& name) {
  const Dims dims = graph.value(x).desc.dims;
  std::int64_t num_stacked = 1;  // kMatrix leads
  for (const Axis& axis : axes.stacked) x = move_axis(graph, x, axis, num_stacked++, name + ".apart");
  const Dims moved = graph.value(x).desc.dims;
  Dims flat(moved.begin(), moved.begin() + num_stacked);
  flat.push_back({"rows", extent_of(dims, axes.rows)});
  flat.push_back({"columns", extent_of(dims, axes.columns)});
  x = normalize_matrices(graph, x, num_stacked, name + ".normalized");
  x = orthogonalized(graph, reshape(graph, x, flat, name + ".flat"), name + ".orthogonal");
  x = reshape(graph, x, moved, name + ".direction");
  for (std::size_t i = axes.stacked.size(); i-- > 0;)
    x = move_axis(graph, x, axes.stacked[i], find_axis(dims, axes.stacked[i]), name + ".together");
  return x;
}

void append_stack(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> alike,
                  const std::string& name) {
  std::vector<ValueId> directions;
  for (const UpdateInputs& in : alike)
    directions.push_back(graph
                             .append(muon_direction_op(), {in.gradient, in.state[0], in.factor},
                                     {{"momentum", config.muon_momentum}},
                                     "direction." + graph.value(in.parameter).name)
                             .front());
  const MatrixAxes& axes = *alike.front().matrix;
  const ValueId stacked = stack(graph, directions, kMatrix, 0, name + ".stacked");
  const ValueId orthogonal = orthogonal_directions(graph, stacked, axes, name);
  for (std::size_t i = 0; i < alike.size(); ++i) {
    const UpdateInputs& in = alike[i];
    graph.append(muon_op(), {in.parameter, orthogonal, in.hyper, in.factor},
                 {{"scale", scale_of(graph.value(in.parameter).desc.dims, axes)},
                  {"decay", decay_of(graph, config, in.parameter)},
                  {"index", static_cast<std::int64_t>(i)}},
                 "update." + graph.value(in.parameter).name);
  }
}

}  // namespace

const OpDef& muon_direction_op() {
  static const OpDef op = {.name = "muon_direction",
                           .infer = infer_direction,
                           .flops_per_element = 5,
                           .reference = reference_direction,
                           .cpu = {.prepare = cpu_direction},
                           .cuda = TAKT_CUDA_KERNEL(muon_direction),
                           .in_place = {{1, 1}},
                           .may_overwrite_input = true,
                           .samples = {{.name = "one step", .build = build_direction}}};
  return op;
}

const OpDef& muon_op() {
  static const OpDef op = {.name = "muon",
                           .infer = infer,
                           .cost = cost,
                           .placement = {.whole = {"hyper", kMatrix}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(muon),
                           .in_place = {{0, 0}},
                           .samples = {{.name = "one of three", .build = build_update}}};
  return op;
}

bool muon_takes(const Graph&, const UpdateInputs& parameter) {
  return parameter.matrix.has_value();
}

void append_muon(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters) {
  std::vector<std::vector<UpdateInputs>> stacks;  // in the order of their first parameters
  for (const UpdateInputs& in : parameters) {
    const auto is_alike = [&](const std::vector<UpdateInputs>& stack) {
      return graph.value(stack.front().parameter).desc == graph.value(in.parameter).desc &&
             stack.front().matrix == in.matrix;
    };
    const auto known = std::find_if(stacks.begin(), stacks.end(), is_alike);
    (known == stacks.end() ? stacks.emplace_back() : *known).push_back(in);
  }
  for (std::size_t i = 0; i < stacks.size(); ++i)
    append_stack(graph, config, stacks[i], "muon." + std::to_string(i));
}

}  // namespace takt
