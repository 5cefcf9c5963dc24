// What gradient rules share.
#pragma once

#include <optional>
#include <vector>

#include "core/graph/graph.h"
#include "core/graph/op.h"

namespace takt {

// What a gradient rule returns: one entry an input, empty where nothing flows back.
using Gradients = std::vector<std::optional<ValueId>>;

// The gradient of the node's first output.
ValueId dy_of(const GradArgs& args);
// Appends one node, "d.<name>", whose outputs are the gradients of the node's first inputs; the others have none.
Gradients append_gradient(const GradArgs& args, const OpDef& op, const std::vector<ValueId>& inputs,
                          const Attrs& attrs = {});
// The rule that appends one node of kOp, with the node's attributes: its inputs are the node's, then dy.
template <const OpDef& (*kOp)()>
Gradients gradient_by(const GradArgs& args) {
  std::vector<ValueId> inputs = args.node.inputs;
  inputs.push_back(dy_of(args));
  return append_gradient(args, kOp(), inputs, args.node.attrs);
}

}  // namespace takt
