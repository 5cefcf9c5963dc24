// gated: y = silu(g) u, elementwise
//
// Gradient  dg = silu'(g) u dy,  du = silu(g) dy: one node with two outputs, linear in dy.
// Placement elementwise; linear in u.
// Cost      about 12 FLOPs an element. Memory bound.
// Source    Shazeer 2020, arXiv:2002.05202 (SwiGLU).
#include "core/ops/gated.h"

#include "core/ops/activation.h"
#include "core/ops/op.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

void require_alike(const OpArgs& args) {
  for (const TensorDesc& input : args.inputs)
    TAKT_REQUIRE(input == args.input(0) && is_floating(input.dtype), args.name,
                 ": inputs must be alike, got ", args.input(0), " and ", input);
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  require_alike(args);
  return {args.input(0)};
}

std::vector<std::optional<ValueId>> grad(const GradArgs& args) {
  const Node& node = args.node;
  const auto grads = args.graph.append(
      gated_grad_op(), {node.inputs[0], node.inputs[1], args.output_grads[0].value()}, {}, "d." + node.name);
  return {grads[0], grads[1]};
}

Cost cost(const OpArgs& args) {
  return cost_an_element(args, 12.0);
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  std::vector<OpPlacement> signatures = batch_rules(args, {});
  signatures.push_back(linear_rule(args, {args.inputs.size() - 1}));  // in u, or in dy
  return signatures;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = activation_reference("silu", inputs[0]->data[i]) * inputs[1]->data[i];
}

Kernel cpu(const KernelNode& node) {
  return [n = node.input(0).num_elements(), t = node.num_threads](const KernelArgs& k) {
    const float *g = k.input<float>(0), *u = k.input<float>(1);
    float* y = k.output<float>(0);
    parallel_blocks(t, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) y[i] = g[i] * sigmoid_cephes(g[i]) * u[i];
    });
  };
}

std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  require_alike(args);
  return {args.input(0), args.input(0)};
}

void reference_grad(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i) {
    const double g = inputs[0]->data[i], u = inputs[1]->data[i], dy = inputs[2]->data[i];
    outputs[0].data[i] = activation_slope_reference("silu", g) * u * dy;
    outputs[1].data[i] = activation_reference("silu", g) * dy;
  }
}

Kernel cpu_grad(const KernelNode& node) {
  return [n = node.input(0).num_elements(), t = node.num_threads](const KernelArgs& k) {
    const float *g = k.input<float>(0), *u = k.input<float>(1), *dy = k.input<float>(2);
    float *dg = k.output<float>(0), *du = k.output<float>(1);
    parallel_blocks(t, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const float s = sigmoid_cephes(g[i]), flow = dy[i], gate = g[i];
        dg[i] = s * (1.0f + gate * (1.0f - s)) * u[i] * flow;
        du[i] = gate * s * flow;
      }
    });
  };
}

Sample sample(bool with_grad) {
  return {.name = "4 x 12", .build = [with_grad](Graph& g) {
            const TensorDesc desc{{{"batch", 4}, {"mlp", 12}}, DType::kF32};
            const ValueId gate = g.input("gate", desc), up = g.input("up", desc);
            if (with_grad)
              g.append(gated_grad_op(), {gate, up, g.input("dy", desc)}, {}, "d");
            else
              gated_silu(g, gate, up, "y");
          }};
}

}  // namespace

const OpDef& gated_op() {
  static const OpDef op = {.name = "gated",
                           .infer = infer,
                           .grad = grad,
                           .cost = cost,
                           .placements = placements,
                           .reference = reference,
                           .cpu = {cpu},
                           .may_overwrite_input = true,
                           .samples = {sample(false)}};
  return op;
}

const OpDef& gated_grad_op() {
  static const OpDef op = {.name = "gated_grad",
                           .infer = infer_grad,
                           .cost = cost,
                           .placements = placements,
                           .reference = reference_grad,
                           .cpu = {cpu_grad},
                           .samples = {sample(true)}};
  return op;
}

ValueId gated_silu(Graph& graph, ValueId gate, ValueId up, const std::string& name) {
  return graph.append_one(gated_op(), {gate, up}, {}, name);
}

}  // namespace takt
