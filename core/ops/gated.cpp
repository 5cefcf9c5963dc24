// gated: y = silu(g) u, elementwise
//
// Gradient  dg = silu'(g) u dy,  du = silu(g) dy: one node with two outputs, linear in dy.
// Placement elementwise; linear in u.
// Cost      about 12 FLOPs an element. Memory bound.
// Source    Shazeer 2020, arXiv:2002.05202 (SwiGLU).
#include "core/ops/activation.h"
#include "core/ops/elementwise.h"
#include "core/ops/op.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

constexpr auto kValue = [](float g, float u) { return g * sigmoid_cephes(g) * u; };
constexpr auto kReference = [](double g, double u) { return activation_reference("silu", g) * u; };

constexpr auto kGrad = [](float g, float u, float dy) -> std::array<float, 2> {
  const float s = sigmoid_cephes(g);
  return {s * (1.0f + g * (1.0f - s)) * u * dy, g * s * dy};
};
constexpr auto kGradReference = [](double g, double u, double dy) -> std::array<double, 2> {
  return {activation_slope_reference("silu", g) * u * dy, activation_reference("silu", g) * dy};
};

const TensorDesc kDesc{{{"batch", 4}, {"mlp", 12}}};
const Sample kSample = sample("4 x 12", {{"gate", kDesc}, {"up", kDesc}},
                              [](Graph& g, const auto& in) { gated_silu(g, in[0], in[1], "y"); });

}  // namespace

OpDef gated_record() {
  return {.infer = infer_elementwise,
          .grad = gradient_by<gated_grad_op>,
          .flops_per_element = 12,
          .placement = {.linear_in = {{1}}},
          .reference = elementwise_reference<2, kReference>,
          .cpu = {.prepare = elementwise_cpu<2, kValue>, .bf16 = true},
          .may_overwrite_input = true,
          .samples = {kSample}};
}

OpDef gated_grad_record() {
  return {.infer = infer_elementwise,
          .flops_per_element = 12,
          .placement = {.linear_in = {{2}}},
          .reference = elementwise_reference<3, kGradReference>,
          .cpu = {.prepare = elementwise_cpu<3, kGrad, 2>, .bf16 = true},
          .samples = with_gradient({kSample})};
}

ValueId gated_silu(Graph& graph, ValueId gate, ValueId up, const std::string& name) {
  return graph.append_one(gated_op(), {gate, up}, {}, name);
}

}  // namespace takt
