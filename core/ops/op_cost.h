// What most ops cost: some arithmetic, and every input and output moved once.
#pragma once

#include "core/graph/op.h"

namespace takt {

// `flops`, all inputs read, all outputs written.
Cost cost_of_traffic(const OpArgs& args, double flops);
// The same with `flops_an_element` for each element of the largest tensor.
Cost cost_an_element(const OpArgs& args, double flops_an_element);
// Is it one of the few ops that do nearly all arithmetic: matrix products and attention?
bool is_matrix_product(const OpDef& op);
// What one execution of the op costs: its own function's word, or flops_per_element and the traffic.
Cost cost_of(const OpDef& op, const OpArgs& args);

}  // namespace takt
