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
  return {{{}, infer_elementwise(args)[0].dtype}};
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

const SampleInput kX{"x", {{{"batch", 4}, {"embed", 8}}}};
const Sample kSquares = sample("4 x 8", {kX}, [](Graph& g, const auto& in) { sum_squares(g, in[0], "y"); });
const Sample kClip = sample("clipped", {kX}, [](Graph& g, const auto& in) {
  clip_factor(g, sum_squares(g, in[0], "y"), 1.5, "clip");
});

}  // namespace

OpDef sum_squares_record() {
  return {.infer = infer_squares,
          .flops_per_element = 2,
          .reference = reference_squares,
          .cpu = {.prepare = cpu_squares},
          .samples = {kSquares}};
}

OpDef clip_factor_record() {
  return {.infer = infer_clip,
          .flops_per_element = 2,
          .reference = reference_clip,
          .cpu = {.prepare = cpu_clip},
          .samples = {kClip}};
}

ValueId sum_squares(Graph& graph, ValueId x, const std::string& name) {
  return graph.append_one(sum_squares_op(), {x}, {}, name);
}

ClipFactor clip_factor(Graph& graph, ValueId square, double max_norm, const std::string& name) {
  const auto outputs = graph.append(clip_factor_op(), {square}, {{"max_norm", max_norm}}, name);
  return {outputs[0], outputs[1]};
}

}  // namespace takt
