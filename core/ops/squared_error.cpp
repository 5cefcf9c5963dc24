// squared_error: y = (x - t)^2, elementwise
//
// Gradient  dx = 2 (x - t) dy,  dt = -dx: one node with two outputs, linear in dy.
// Placement elementwise.
// Cost      2 FLOPs an element, the gradient 4. Memory bound.
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

// All inputs alike; an output for each input but the last, t or dy.
std::vector<TensorDesc> infer(const OpArgs& args) {
  infer_floating(args);
  infer_alike(args);
  return std::vector<TensorDesc>(args.inputs.size() - 1, args.input(0));
}

Gradients grad(const GradArgs& args) {
  const std::vector<ValueId>& in = args.node.inputs;
  return append_gradient(args, squared_error_grad_op(), {in[0], in[1], dy_of(args)});
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    const double difference = inputs[0]->data[i] - inputs[1]->data[i];
    outputs[0].data[i] = difference * difference;
  }
}

Kernel cpu(const KernelNode& node) {
  return elementwise_kernel<2>(node, [](float x, float t) { return (x - t) * (x - t); });
}

void reference_grad(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    outputs[0].data[i] = 2 * (inputs[0]->data[i] - inputs[1]->data[i]) * inputs[2]->data[i];
    outputs[1].data[i] = -outputs[0].data[i];
  }
}

Kernel cpu_grad(const KernelNode& node) {
  return elementwise_kernel<3, 2>(node, [](float x, float t, float dy) -> std::array<float, 2> {
    const float dx = 2.0f * (x - t) * dy;
    return {dx, -dx};
  });
}

Sample sample(bool with_grad) {
  return {.name = "4 x 12", .build = [with_grad](Graph& g) {
            const TensorDesc desc{{{"batch", 4}, {"output", 12}}, DType::kF32};
            const ValueId x = g.input("x", desc), t = g.input("t", desc);
            if (with_grad)
              g.append(squared_error_grad_op(), {x, t, g.input("dy", desc)}, {}, "d");
            else
              squared_error(g, x, t, "y");
          }};
}

}  // namespace

const OpDef& squared_error_op() {
  static const OpDef op = {.name = "squared_error",
                           .infer = infer,
                           .grad = grad,
                           .flops_per_element = 2,
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(squared_error),
                           .may_overwrite_input = true,
                           .samples = {sample(false)}};
  return op;
}

const OpDef& squared_error_grad_op() {
  static const OpDef op = {.name = "squared_error_grad",
                           .infer = infer,
                           .flops_per_element = 4,
                           .placement = {.linear_in = {{2}}},
                           .reference = reference_grad,
                           .cpu = {.prepare = cpu_grad},
                           .cuda = TAKT_CUDA_KERNEL(squared_error_grad),
                           .samples = {sample(true)}};
  return op;
}

ValueId squared_error(Graph& graph, ValueId x, ValueId target, const std::string& name) {
  return graph.append_one(squared_error_op(), {x, target}, {}, name);
}

}  // namespace takt
