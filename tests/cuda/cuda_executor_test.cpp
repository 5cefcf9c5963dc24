// A model trained on GPUs is the model trained on CPUs: the same losses and weights, on any mesh.
#include "core/exec/cuda_executor.h"

#include <gtest/gtest.h>

#include "tests/cuda/cuda_test.h"
#include "tests/cuda/training_cases.h"

namespace takt {
namespace {

class CudaTraining : public CudaTest, public testing::WithParamInterface<SmallModel> {
 protected:
  // On meshes of so many GPUs.
  static void expect_as_on_cpus(int num_ranks) {
    for (const Layout& layout : layouts()) {
      if (layout.num_ranks() != num_ranks) continue;
      const SmallTraining training = training_of(layout);
      const Trained found = SmallRun(GetParam(), training, DeviceKind::kCuda)();
      const Trained wanted = SmallRun(GetParam(), training, DeviceKind::kCpu)();
      EXPECT_EQ(difference(found, wanted, closeness(layout.precision)).value_or(""), "") << layout.name();
    }
  }
};

TEST_P(CudaTraining, OneGpuIsOneCpu) {
  expect_as_on_cpus(1);
}

TEST_P(CudaTraining, TwoGpusAreTwoCpus) {
  expect_as_on_cpus(2);
}

TEST_P(CudaTraining, FourGpusAreFourCpus) {
  expect_as_on_cpus(4);
}

INSTANTIATE_TEST_SUITE_P(Models, CudaTraining, testing::ValuesIn(trained_models()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace takt
