// What gradient rules share: see the ops for the formulas.
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

}  // namespace takt
