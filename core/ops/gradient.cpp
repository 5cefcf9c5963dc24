// A gradient op needs no samples of its own: what its op's gradient rule builds is its only use.
#include "core/ops/gradient.h"

namespace takt {

ValueId dy_of(const GradArgs& args) {
  return args.output_grads[0].value();
}

Gradients append_gradient(const GradArgs& args, const OpDef& op, const std::vector<ValueId>& inputs,
                          const Attrs& attrs) {
  const std::vector<ValueId> outputs = args.graph.append(op, inputs, attrs, "d." + args.node.name);
  Gradients gradients(outputs.begin(), outputs.end());
  gradients.resize(args.node.inputs.size());
  return gradients;
}

std::vector<Sample> with_gradient(std::vector<Sample> samples) {
  for (Sample& sample : samples)
    sample.build = [forward = sample.build](Graph& g) {
      forward(g);
      const Node node = g.nodes().back();
      Gradients dy(node.outputs.size());
      dy[0] = g.input("dy", g.value(node.outputs[0]).desc);
      node.op->grad({g, node, dy});
    };
  return samples;
}

}  // namespace takt
