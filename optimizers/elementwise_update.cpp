// What all elementwise updates share.
#include "optimizers/elementwise_update.h"

#include "core/ops/op_cost.h"

namespace takt {
namespace {

// All but the target of the copy.
OpArgs args_of_update(const OpArgs& args) {
  OpArgs update = args;
  update.inputs.pop_back();
  if (!update.outputs.empty()) update.outputs.pop_back();
  return update;
}

std::vector<TensorDesc> infer_with_copy(const OpArgs& args) {
  const TensorDesc copy{args.input(0).dims, DType::kBF16};
  TAKT_REQUIRE(args.inputs.back() == copy, args.name, ": the copy of ", args.input(0), " is ",
               args.inputs.back(), ", wanted ", copy);
  std::vector<TensorDesc> outputs = infer_elementwise_update(args_of_update(args));
  outputs.push_back(copy);
  return outputs;
}

Cost cost_with_copy(const OpArgs& args) {
  Cost cost = cost_elementwise_update(args_of_update(args));
  cost.bytes_written += static_cast<double>(args.inputs.back().num_bytes());
  return cost;
}

}  // namespace

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

OpDef with_copy(const OpDef& update) {
  OpDef op = update;
  const auto num_outputs = static_cast<int>(update.in_place.size()), num_inputs = num_outputs + 3;
  op.name = update.name + "_with_copy";
  op.infer = infer_with_copy;
  op.cost = cost_with_copy;
  op.in_place.emplace_back(num_outputs, num_inputs);
  op.cpu.bf16 = op.cuda.bf16 = true;
  op.samples = {};
  return op;
}

void write_copy(const float* parameter, BF16* copy, std::int64_t first, std::int64_t last) {
  if (copy == nullptr) return;
  for (std::int64_t i = first; i < last; ++i) copy[i] = stored<BF16>(parameter[i]);
}

}  // namespace takt
