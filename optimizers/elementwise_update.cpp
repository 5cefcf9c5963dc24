// Elementwise updates may be cut along any axis of the parameter: that is all that sharded optimizer state
// needs.
#include "optimizers/elementwise_update.h"

#include "core/ops/placement_rules.h"

namespace takt {

std::vector<TensorDesc> infer_elementwise_update(const OpArgs& args) {
  const std::size_t num_tensors = args.inputs.size() - 2;
  for (std::size_t i = 0; i < num_tensors; ++i)
    TAKT_REQUIRE(args.input(i) == args.input(0), args.name, ": parameter, gradient and state differ, ",
                 args.input(0), " and ", args.input(i));
  return std::vector<TensorDesc>(num_tensors - 1, args.input(0));  // all but the gradient
}

Cost cost_elementwise_update(const OpArgs& args) {
  const auto bytes = static_cast<double>(args.input(0).num_bytes());
  const auto num_tensors = static_cast<double>(args.inputs.size() - 2);
  return {5.0 * num_tensors * static_cast<double>(args.input(0).num_elements()), bytes * num_tensors,
          bytes * (num_tensors - 1)};
}

std::vector<OpPlacement> placements_elementwise_update(const OpArgs& args) {
  return batch_rules(args, {});
}

}  // namespace takt
