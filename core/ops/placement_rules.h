// From an op's placement rule to its signatures, and the pieces that ops with a rule of their own are built from.
#pragma once

#include <vector>

#include "core/graph/op.h"

namespace takt {

// All signatures of the op along one mesh axis, replicated first, each once.
std::vector<OpPlacement> signatures_of(const OpDef& op, const OpArgs& args);
// What the rule, as data, says of these tensors.
std::vector<OpPlacement> signatures_by(const PlacementRule& rule, const OpArgs& args);
// What the empty rule says, with `instead` where output 0 would be a partial sum.
std::vector<OpPlacement> signatures_with_partial(const AxisPlacement& instead, const OpArgs& args);

// Everything replicated: every op can do this.
OpPlacement replicated_rule(const OpArgs& args);
// Tensors that have `axis` are sharded along it; inputs without it are replicated, outputs without it are partial sums.
// Right for every op that treats the elements along `axis` alike and sums over it at most.
OpPlacement split_rule(const OpArgs& args, const Axis& axis);
// The listed inputs are partial sums, the others replicated, all outputs partial sums: ops linear in those inputs
// together.
OpPlacement linear_rule(const OpArgs& args, const std::vector<int>& partial_inputs);

}  // namespace takt
