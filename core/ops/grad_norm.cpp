// sum_squares: y = sum_i x[i]^2.    clip_factor: norm = sqrt(y), factor = min(1, max_norm / norm).
//
// Placement a sharded x gives a partial sum: adding the squares of all gradients and then reducing one number makes
//           the norm that of the whole model on any mesh. clip_factor is not linear and needs the whole sum.
// Cost      2 FLOPs an element. Memory bound.
// Source    Pascanu et al. 2013, arXiv:1211.5063 (clipping by the global norm).
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/ops/op.h"
#include "core/ops/rows.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer_squares(const OpArgs& args) {
  infer_floating(args);
  return {{{}, args.input(0).dtype}};
}

void reference_squares(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (const double x : inputs[0]->data) outputs[0].data[0] += x * x;
}

Kernel cpu_squares(const KernelNode& node) {
  return [n = node.input(0).num_elements()](const KernelArgs& k) {
    const float* x = k.input<float>(0);
    const auto square = [x](std::int64_t i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); };
    k.output<float>(0)[0] = static_cast<float>(fold(n, 0.0, std::plus(), square));
  };
}

std::vector<TensorDesc> infer_clip(const OpArgs& args) {
  TAKT_REQUIRE(args.input(0).dims.empty(), "clip_factor '", args.name, "': wants a scalar, got ",
               args.input(0));
  return {args.input(0), args.input(0)};
}

// A norm that is not finite gives a factor that is not either, which optimizers take as "leave everything as it is".
double factor_of(double norm, double max_norm) {
  if (!std::isfinite(norm)) return std::numeric_limits<double>::quiet_NaN();
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

void reference_clip(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  outputs[0].data[0] = std::sqrt(inputs[0]->data[0]);
  outputs[1].data[0] = factor_of(outputs[0].data[0], args.attrs.number("max_norm"));
}

Kernel cpu_clip(const KernelNode& node) {
  return [max_norm = node.attrs.number("max_norm")](const KernelArgs& k) {
    const double norm = std::sqrt(static_cast<double>(k.input<float>(0)[0]));
    k.output<float>(0)[0] = static_cast<float>(norm);
    k.output<float>(1)[0] = static_cast<float>(factor_of(norm, max_norm));
  };
}

ValueId build_squares(Graph& g) {
  return sum_squares(g, g.input("x", {{{"batch", 4}, {"embed", 8}}}), "y");
}

void build_clip(Graph& g) {
  clip_factor(g, build_squares(g), 1.5, "clip");
}

}  // namespace

const OpDef& sum_squares_op() {
  static const OpDef op = {.name = "sum_squares",
                           .infer = infer_squares,
                           .flops_per_element = 2,
                           .reference = reference_squares,
                           .cpu = {.prepare = cpu_squares},
                           .cuda = TAKT_CUDA_KERNEL(sum_squares),
                           .samples = {{.name = "4 x 8", .build = build_squares}}};
  return op;
}

const OpDef& clip_factor_op() {
  static const OpDef op = {.name = "clip_factor",
                           .infer = infer_clip,
                           .flops_per_element = 2,
                           .reference = reference_clip,
                           .cpu = {.prepare = cpu_clip},
                           .cuda = TAKT_CUDA_KERNEL(clip_factor),
                           .samples = {{.name = "clipped", .build = build_clip}}};
  return op;
}

ValueId sum_squares(Graph& graph, ValueId x, const std::string& name) {
  return graph.append_one(sum_squares_op(), {x}, {}, name);
}

ClipFactor clip_factor(Graph& graph, ValueId square, double max_norm, const std::string& name) {
  const auto outputs = graph.append(clip_factor_op(), {square}, {{"max_norm", max_norm}}, name);
  return {outputs[0], outputs[1]};
}

}  // namespace takt
