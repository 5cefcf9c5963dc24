// The CUDA kernels against the CPU's on shards that end in padding.
#include "tests/cuda/as_on_cpu.h"
#include "tests/emulated/control.h"  // whose diagnoses a run reads: not on a GPU

namespace takt {
namespace {

using namespace op_contract;

// A shard of a vocabulary that ends in padding, begins after others, or is padding only.
TEST(OpCudaPadding, TakesNoPartInLosses) {
  for (const std::int64_t width : {8, 24, 1500})
    for (const std::int64_t num_valid : {std::int64_t{0}, width / 2 + 1, width}) {
      const std::vector<AxisRange> ranges = {{"vocab", 2 * width, num_valid, 2 * width + num_valid}};
      const TensorDesc logits = f32({{"batch", 5}, {"vocab", width}}), token = f32({{"batch", 5}}),
                       targets{{{"batch", 5}}, DType::kI32};
      const auto use = [&](const OpDef& op, const std::vector<TensorDesc>& inputs) {
        return Use{std::to_string(num_valid), op, {}, inputs, ranges, 3 * width, {3}};
      };
      expect_as_on_cpu_in_all_ways(use(sum_exp_op(), {logits, token}));
      expect_as_on_cpu_in_all_ways(use(pick_op(), {logits, targets}));
      expect_as_on_cpu_in_all_ways(use(cross_entropy_op(), {logits, targets, token, token, token}));
      expect_as_on_cpu_in_all_ways(use(cross_entropy_grad_op(), {logits, targets, token, token, token}));
    }
}

TEST(OpCudaPadding, DoesNotCountInReductions) {
  for (const std::string op : {"sum", "max"})
    for (Use use : reductions(op)) {
      const Axis axis = use.attrs.axes("axes").front();
      const std::int64_t extent = use.inputs[0].extent(axis);
      for (const std::int64_t num_valid : {extent / 2 + 1, extent - 1}) {
        use.ranges = {{axis, extent, num_valid, extent + num_valid}};
        expect_as_on_cpu_in_all_ways(use);
      }
    }
  const Dims dims = {{"batch", 3}, {"seq", 5}, {"embed", 8}};
  expect_as_on_cpu_in_all_ways({.name = "inner axis",
                                .op = reduce_op(),
                                .attrs = {{"axes", AxisNames{"seq", "embed"}}, {"op", std::string("max")}},
                                .inputs = {f32(dims)},
                                .ranges = {{"embed", 8, 3, 11}}});
}

}  // namespace
}  // namespace takt
