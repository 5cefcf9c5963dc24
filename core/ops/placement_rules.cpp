// Signatures shared by many ops.
#include "core/ops/placement_rules.h"

#include "core/ops/shape_rules.h"

namespace takt {
OpPlacement replicated_rule(const OpArgs& args) {
  return {std::vector<AxisPlacement>(args.inputs.size()), std::vector<AxisPlacement>(args.outputs.size())};
}

OpPlacement split_rule(const OpArgs& args, const Axis& axis) {
  OpPlacement signature = replicated_rule(args);
  for (std::size_t i = 0; i < args.inputs.size(); ++i)
    if (args.inputs[i].has(axis)) signature.inputs[i] = AxisPlacement::sharded(axis);
  for (std::size_t i = 0; i < args.outputs.size(); ++i)
    signature.outputs[i] =
        args.outputs[i].has(axis) ? AxisPlacement::sharded(axis) : AxisPlacement::partial();
  return signature;
}

OpPlacement linear_rule(const OpArgs& args, const std::vector<int>& partial_inputs) {
  OpPlacement signature = replicated_rule(args);
  for (const int i : partial_inputs)
    if (i == PlacementRule::kAll)
      signature.inputs.assign(args.inputs.size(), AxisPlacement::partial());
    else
      signature.inputs.at(static_cast<std::size_t>(i)) = AxisPlacement::partial();
  signature.outputs.assign(args.outputs.size(), AxisPlacement::partial());
  return signature;
}

std::vector<OpPlacement> signatures_by(const PlacementRule& rule, const OpArgs& args) {
  AxisNames seen = rule.whole;  // whole, or dealt with
  if (rule.whole_last_of) seen.push_back(args.input(*rule.whole_last_of).dims.back().axis);
  if (!rule.whole_attr.empty()) seen.push_back(args.attrs.axis(rule.whole_attr));
  std::vector<OpPlacement> signatures = {replicated_rule(args)};
  for (const std::vector<TensorDesc>* tensors : {&args.outputs, &args.inputs})
    for (const TensorDesc& tensor : *tensors)
      for (const Dim& dim : tensor.dims) {
        if (contains(seen, dim.axis)) continue;
        signatures.push_back(split_rule(args, dim.axis));
        seen.push_back(dim.axis);
      }
  for (const std::vector<int>& inputs : rule.linear_in) signatures.push_back(linear_rule(args, inputs));
  return signatures;
}

std::vector<OpPlacement> signatures_with_partial(const AxisPlacement& instead, const OpArgs& args) {
  std::vector<OpPlacement> signatures = signatures_by({}, args);
  for (OpPlacement& signature : signatures)
    if (signature.outputs[0].is_partial()) signature.outputs[0] = instead;
  return signatures;
}

std::vector<OpPlacement> signatures_of(const OpDef& op, const OpArgs& args) {
  return op.placements != nullptr ? op.placements(args) : signatures_by(op.placement, args);
}

}  // namespace takt
