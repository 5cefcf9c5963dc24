// squared_error: y = (x - t)^2, elementwise
//
// Gradient  dx = 2 (x - t) dy,  dt = -dx: one node with two outputs, linear in dy.
// Placement elementwise.
// Cost      2 FLOPs an element, the gradient 4. Memory bound.
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

constexpr auto kValue = [](float x, float t) { return (x - t) * (x - t); };
constexpr auto kReference = [](double x, double t) { return (x - t) * (x - t); };

constexpr auto kGrad = [](float x, float t, float dy) -> std::array<float, 2> {
  const float dx = 2.0f * (x - t) * dy;
  return {dx, -dx};
};
constexpr auto kGradReference = [](double x, double t, double dy) -> std::array<double, 2> {
  return {2 * (x - t) * dy, -2 * (x - t) * dy};
};

const TensorDesc kDesc{{{"batch", 4}, {"output", 12}}};
const Sample kSample = sample("4 x 12", {{"x", kDesc}, {"t", kDesc}},
                              [](Graph& g, const auto& in) { squared_error(g, in[0], in[1], "y"); });

}  // namespace

OpDef squared_error_record() {
  return {.infer = infer_elementwise,
          .grad = gradient_by<squared_error_grad_op>,
          .flops_per_element = 2,
          .reference = elementwise_reference<2, kReference>,
          .cpu = {.prepare = elementwise_cpu<2, kValue>},
          .may_overwrite_input = true,
          .samples = {kSample}};
}

OpDef squared_error_grad_record() {
  return {.infer = infer_elementwise,
          .flops_per_element = 4,
          .placement = {.linear_in = {{2}}},
          .reference = elementwise_reference<3, kGradReference>,
          .cpu = {.prepare = elementwise_cpu<3, kGrad, 2>},
          .samples = with_gradient({kSample})};
}

ValueId squared_error(Graph& graph, ValueId x, ValueId target, const std::string& name) {
  return graph.append_one(squared_error_op(), {x, target}, {}, name);
}

}  // namespace takt
