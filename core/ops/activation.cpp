// activation: y = act(x), elementwise
//
//   silu(x) = x / (1 + exp(-x))                                        Elfwing et al. 2017, arXiv:1702.03118
//   gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))            Hendrycks and Gimpel 2016, arXiv:1606.08415
//
// Gradient  dx = act'(x) dy, as a node of its own (activation_grad), linear in dy.
// Cost      about 10 FLOPs an element. Memory bound.
#include "core/ops/activation.h"

#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/op.h"
#include "core/ops/vector_math.h"

namespace takt {
namespace {

constexpr double kGeluScale = 0.79788456080286536;  // sqrt(2 / pi)
constexpr double kGeluCubic = 0.044715;

struct Silu {
  static float value(float x) { return x * sigmoid_cephes(x); }
  static float slope(float x) {
    const float s = sigmoid_cephes(x);
    return s * (1.0f + x * (1.0f - s));
  }
};

struct Gelu {
  static constexpr float kScale = static_cast<float>(kGeluScale), kCubic = static_cast<float>(kGeluCubic);
  static float value(float x) { return 0.5f * x * (1.0f + tanh_cephes(kScale * (x + kCubic * x * x * x))); }
  static float slope(float x) {
    const float t = tanh_cephes(kScale * (x + kCubic * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kScale * (1.0f + 3.0f * kCubic * x * x);
  }
};

std::vector<TensorDesc> infer(const OpArgs& args) {
  const std::string& kind = args.attrs.text("kind");
  TAKT_REQUIRE(kind == "silu" || kind == "gelu", "activation '", args.name, "': kind is '", kind,
               "'; silu and gelu are known");
  return infer_elementwise(args);
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = activation_reference(args.attrs.text("kind"), inputs[0]->data[i]);
}

Kernel cpu(const KernelNode& node) {
  return activation_kernel(node.attrs.text("kind"), node);
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] =
        activation_slope_reference(args.attrs.text("kind"), inputs[0]->data[i]) * inputs[1]->data[i];
}

Kernel cpu_grad(const KernelNode& node) {
  if (node.attrs.text("kind") == "silu")
    return elementwise_kernel<2>(node, [](float x, float dy) { return Silu::slope(x) * dy; });
  return elementwise_kernel<2>(node, [](float x, float dy) { return Gelu::slope(x) * dy; });
}

std::vector<Sample> samples() {
  std::vector<Sample> all;
  for (const std::string kind : {"silu", "gelu"})
    all.push_back(sample(kind, {{"x", {{{"batch", 4}, {"mlp", 12}}}}},
                         [kind](Graph& g, const auto& in) { activation(g, in[0], kind, "y"); }));
  return all;
}

}  // namespace

double activation_reference(const std::string& kind, double x) {
  if (kind == "silu") return x / (1.0 + std::exp(-x));
  return 0.5 * x * (1.0 + std::tanh(kGeluScale * (x + kGeluCubic * x * x * x)));
}

double activation_slope_reference(const std::string& kind, double x) {
  if (kind == "silu") {
    const double s = 1.0 / (1.0 + std::exp(-x));
    return s * (1.0 + x * (1.0 - s));
  }
  const double t = std::tanh(kGeluScale * (x + kGeluCubic * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * kGeluScale * (1.0 + 3.0 * kGeluCubic * x * x);
}

Kernel activation_kernel(const std::string& kind, const KernelNode& node) {
  if (kind == "silu") return elementwise_kernel<1>(node, [](float x) { return Silu::value(x); });
  return elementwise_kernel<1>(node, [](float x) { return Gelu::value(x); });
}

OpDef activation_record() {
  return {.infer = infer,
          .grad = gradient_by<activation_grad_op>,
          .flops_per_element = 10,
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .may_overwrite_input = true,
          .samples = samples()};
}

OpDef activation_grad_record() {
  return {.infer = infer,
          .flops_per_element = 10,
          .placement = {.linear_in = {{1}}},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad, .bf16 = true},
          .may_overwrite_input = true,
          .samples = with_gradient(samples())};
}

ValueId activation(Graph& graph, ValueId x, const std::string& kind, const std::string& name) {
  return graph.append_one(activation_op(), {x}, {{"kind", kind}}, name);
}

ValueId activation_grad(Graph& graph, ValueId x, ValueId dy, const std::string& kind,
                        const std::string& name) {
  return graph.append_one(activation_grad_op(), {x, dy}, {{"kind", kind}}, name);
}

}  // namespace takt
