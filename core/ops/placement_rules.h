// The few shapes that placement rules are made of. Each function gives one signature along one mesh axis.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "core/graph/op.h"

namespace takt {

// All ways in which an op can be placed along one mesh axis.
std::vector<OpPlacement> signatures_of(const OpDef& op, const OpArgs& args);
// Everything replicated: every op can do this.
OpPlacement replicated_rule(const OpArgs& args);
// Tensors that have `axis` are sharded along it; inputs without it are replicated, outputs without it are
// partial sums. Right for every op that treats the elements along `axis` alike and sums over it at most.
OpPlacement split_rule(const OpArgs& args, const Axis& axis);
// The listed inputs are partial sums, the others replicated, all outputs partial sums: ops linear in those
// inputs together.
OpPlacement linear_rule(const OpArgs& args, std::initializer_list<std::size_t> partial_inputs);
// replicated_rule, and split_rule along every axis of output 0 that is not in `whole`.
std::vector<OpPlacement> batch_rules(const OpArgs& args, const AxisNames& whole);

}  // namespace takt
