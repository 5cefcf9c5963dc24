// scale: y = factor x
//
// Gradient  dx = factor dy.     Placement elementwise and linear.     Cost one FLOP an element.
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

Gradients grad(const GradArgs& args) {
  return {scale(args.graph, dy_of(args), args.node.attrs.number("factor"), "d." + args.node.name)};
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = args.attrs.number("factor") * inputs[0]->data[i];
}

Kernel cpu(const KernelNode& node) {
  const auto factor = static_cast<float>(node.attrs.number("factor"));
  return elementwise_kernel<1>(node, [factor](float x) { return factor * x; });
}

const Sample kSample = sample("by -0.3", {{"x", {{{"batch", 4}, {"embed", 8}}}}},
                              [](Graph& g, const auto& in) { scale(g, in[0], -0.3, "y"); });

}  // namespace

OpDef scale_record() {
  return {.infer = infer_elementwise,
          .grad = grad,
          .flops_per_element = 1,
          .placement = {.linear_in = {{0}}},
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .may_overwrite_input = true,
          .samples = {kSample}};
}

ValueId scale(Graph& graph, ValueId x, double factor, const std::string& name) {
  return graph.append_one(scale_op(), {x}, {{"factor", factor}}, name);
}

}  // namespace takt
