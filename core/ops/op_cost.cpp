// Traffic is counted as if caches were empty and held nothing back: the bound of a memory-bound op.
#include "core/ops/op_cost.h"

#include <algorithm>

namespace takt {

Cost cost_of_traffic(const OpArgs& args, double flops) {
  Cost cost{.flops = flops};
  for (const TensorDesc& input : args.inputs) cost.bytes_read += static_cast<double>(input.num_bytes());
  for (const TensorDesc& output : args.outputs) cost.bytes_written += static_cast<double>(output.num_bytes());
  return cost;
}

Cost cost_an_element(const OpArgs& args, double flops_an_element) {
  std::int64_t most = 0;
  for (const TensorDesc& input : args.inputs) most = std::max(most, input.num_elements());
  for (const TensorDesc& output : args.outputs) most = std::max(most, output.num_elements());
  return cost_of_traffic(args, flops_an_element * static_cast<double>(most));
}

bool is_matrix_product(const OpDef& op) {
  return op.name == "matmul" || op.name.starts_with("attention");
}

Cost cost_of(const OpDef& op, const OpArgs& args) {
  return op.cost != nullptr ? op.cost(args) : cost_an_element(args, op.flops_per_element);
}

}  // namespace takt
