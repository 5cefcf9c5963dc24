// What all elementwise updates share.
#include "optimizers/elementwise_update.h"

#include "core/ops/op_cost.h"

namespace takt {

std::vector<TensorDesc> infer_elementwise_update(const OpArgs& args) {
  const std::size_t num_tensors = args.inputs.size() - 2;
  for (std::size_t i = 0; i < num_tensors; ++i)
    TAKT_REQUIRE(args.input(i) == args.input(0), args.name, ": parameter, gradient and state differ, ",
                 args.input(0), " and ", args.input(i));
  return std::vector<TensorDesc>(num_tensors - 1, args.input(0));  // all but the gradient
}

Cost cost_elementwise_update(const OpArgs& args) {
  return cost_an_element(args, 5.0 * static_cast<double>(args.inputs.size() - 2));
}

}  // namespace takt
