// Signatures shared by many ops.
#include "core/ops/placement_rules.h"

#include <algorithm>

namespace takt {

std::vector<OpPlacement> signatures_of(const OpDef& op, const OpArgs& args) {
  TAKT_ASSERT(op.placements != nullptr, "op ", op.name, " has no placement rule");
  return op.placements(args);
}

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

OpPlacement linear_rule(const OpArgs& args, std::initializer_list<std::size_t> partial_inputs) {
  OpPlacement signature = replicated_rule(args);
  for (const std::size_t i : partial_inputs) signature.inputs[i] = AxisPlacement::partial();
  for (AxisPlacement& output : signature.outputs) output = AxisPlacement::partial();
  return signature;
}

std::vector<OpPlacement> batch_rules(const OpArgs& args, const AxisNames& whole) {
  std::vector<OpPlacement> signatures = {replicated_rule(args)};
  for (const Dim& dim : args.output(0).dims)
    if (std::find(whole.begin(), whole.end(), dim.axis) == whole.end())
      signatures.push_back(split_rule(args, dim.axis));
  return signatures;
}

}  // namespace takt
