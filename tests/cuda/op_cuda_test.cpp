// The CUDA kernels of all ops and optimizer updates on the emulated device: what op_contract.h says of every op.
#include "tests/cuda/run_on_gpu.h"
#include "tests/emulated/control.h"  // whose diagnoses a run reads: not on a GPU

namespace takt {
namespace {

using namespace op_contract;

class OpCuda : public testing::TestWithParam<Case> {
 public:
  Device device() {
    return {&OpDef::cuda,
            [this](const OpDef& op, KernelNode& node, const std::vector<Buffer*>& inputs,
                   const std::vector<Buffer*>& outputs) { run_on_gpu(context, op, node, inputs, outputs); }};
  }
  CudaContext context;
};
class OpCudaGradient : public OpCuda {};

TEST_P(OpCuda, EveryPlacementOnAnyNumberOfRanksEqualsTheReference) {
  expect_every_placement(device(), GetParam());
}
TEST_P(OpCudaGradient, IsTheDoubleGradientWithinItsBound) {
  expect_double_gradient(device(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(AllOps, OpCuda, testing::ValuesIn(all_cases(&OpDef::cuda)), name_of_case);
INSTANTIATE_TEST_SUITE_P(InF32, OpCudaGradient,
                         testing::ValuesIn(differentiable_cases(&OpDef::cuda, DType::kF32)), name_of_case);
INSTANTIATE_TEST_SUITE_P(InBF16, OpCudaGradient,
                         testing::ValuesIn(differentiable_cases(&OpDef::cuda, DType::kBF16)), name_of_case);

TEST(OpCudaRegistry, EveryOpThatTheCpuComputesHasAKernel) {
  for (const OpDef* op : op_registry()) EXPECT_NE(op->cuda.prepare, nullptr) << op->name;
  for (const OptimizerDef& optimizer : optimizer_registry())
    for (const OpDef* op : optimizer.ops) EXPECT_NE(op->cuda.prepare, nullptr) << op->name;
}

}  // namespace
}  // namespace takt
