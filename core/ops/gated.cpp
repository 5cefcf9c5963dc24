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

// All inputs alike; an output for each input but the last, u or dy.
std::vector<TensorDesc> infer(const OpArgs& args) {
  infer_floating(args);
  infer_alike(args);
  return std::vector<TensorDesc>(args.inputs.size() - 1, args.input(0));
}

Gradients grad(const GradArgs& args) {
  const std::vector<ValueId>& in = args.node.inputs;
  return append_gradient(args, gated_grad_op(), {in[0], in[1], dy_of(args)});
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = activation_reference("silu", inputs[0]->data[i]) * inputs[1]->data[i];
}

Kernel cpu(const KernelNode& node) {
  return elementwise_kernel<2>(node, [](float g, float u) { return g * sigmoid_cephes(g) * u; });
}

void reference_grad(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    const double g = inputs[0]->data[i], u = inputs[1]->data[i], dy = inputs[2]->data[i];
    outputs[0].data[i] = activation_slope_reference("silu", g) * u * dy;
    outputs[1].data[i] = activation_reference("silu", g) * dy;
  }
}

Kernel cpu_grad(const KernelNode& node) {
  return elementwise_kernel<3, 2>(node, [](float g, float u, float dy) -> std::array<float, 2> {
    const float s = sigmoid_cephes(g);
    return {s * (1.0f + g * (1.0f - s)) * u * dy, g * s * dy};
  });
}

void build_sample(Graph& g) {
  const TensorDesc desc{{{"batch", 4}, {"mlp", 12}}};
  const ValueId gate = g.input("gate", desc);
  gated_silu(g, gate, g.input("up", desc), "y");
}

const Sample kSample{.name = "4 x 12", .build = build_sample};

}  // namespace

const OpDef& gated_op() {
  static const OpDef op = {.name = "gated",
                           .infer = infer,
                           .grad = grad,
                           .flops_per_element = 12,
                           .placement = {.linear_in = {{1}}},
                           .reference = reference,
                           .cpu = {.prepare = cpu, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(gated),
                           .may_overwrite_input = true,
                           .samples = {kSample}};
  return op;
}

const OpDef& gated_grad_op() {
  static const OpDef op = {.name = "gated_grad",
                           .infer = infer,
                           .flops_per_element = 12,
                           .placement = {.linear_in = {{2}}},
                           .reference = reference_grad,
                           .cpu = {.prepare = cpu_grad, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(gated_grad),
                           .samples = with_gradient({kSample})};
  return op;
}

ValueId gated_silu(Graph& graph, ValueId gate, ValueId up, const std::string& name) {
  return graph.append_one(gated_op(), {gate, up}, {}, name);
}

}  // namespace takt
