// Kernels that are wrong are found out, in whatever order threads run.
#include <cmath>

#include "tests/emulated/emulated_test.h"
#include "tests/emulated/kernels_for_tests.h"

namespace takt::emulated::test {
namespace {

class BrokenKernels : public EmulatedTest, public testing::WithParamInterface<ThreadOrder> {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    set_order(GetParam(), 11);
  }

  // The kernel fails, the device stays broken, and the diagnosis has `text`.
  static void expect_fault(Bug bug, const std::string& text) {
    const StreamOwner stream;
    const DeviceBuffer<float> out(128);
    EXPECT_EQ(broken_kernel(bug, out.get(), stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
    EXPECT_EQ(cudaMemsetAsync(out.get(), 0, 4, stream), cudaErrorLaunchFailure) << "the error is sticky";
    expect_diagnosis(text);
  }

  static std::vector<float> results(Bug bug, std::size_t num) {
    const StreamOwner stream;
    const DeviceBuffer<float> out(counting(128));
    EXPECT_CUDA(broken_kernel(bug, out.get(), stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    std::vector<float> values = out.values();
    values.resize(num);
    return values;
  }
};

TEST_P(BrokenKernels, MissingBarrierGivesWrongResults) {
  const StreamOwner stream;
  const DeviceBuffer<float> out(counting(128));
  ASSERT_CUDA(broken_kernel(Bug::kMissingBarrier, out.get(), stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> values = out.values();
  int num_wrong = 0;
  for (std::size_t i = 0; i < 64; ++i) num_wrong += values[64 + i] != float(63 - i);
  EXPECT_GT(num_wrong, 16);
}

TEST_P(BrokenKernels, DivergentBarrier) {
  expect_fault(Bug::kDivergentBarrier, "divergent __syncthreads");
}
TEST_P(BrokenKernels, BarrierAfterAThreadFinished) {
  expect_fault(Bug::kBarrierAfterExit, "finished");
}
TEST_P(BrokenKernels, BarrierAgainstWarpOperation) {
  expect_fault(Bug::kBarrierAgainstWarp, "no thread can go on");
}
TEST_P(BrokenKernels, WarpMateThatNeverComes) {
  expect_fault(Bug::kLostWarpMate, "__syncthreads");
}
TEST_P(BrokenKernels, MaskWithoutCaller) {
  expect_fault(Bug::kMaskWithoutCaller, "does not name the lane");
}
TEST_P(BrokenKernels, OverlappingMasks) {
  expect_fault(Bug::kOverlappingMasks, "no thread can go on: 0 wait at __syncthreads, 64");
}
TEST_P(BrokenKernels, DifferentShuffles) {
  expect_fault(Bug::kDifferentShuffles, "different warp operations");
}
TEST_P(BrokenKernels, DynamicSharedOverflow) {
  expect_fault(Bug::kDynamicOverflow, "wrote behind its 256 bytes of dynamic shared memory, at offset 256");
}
TEST_P(BrokenKernels, Trap) {
  expect_fault(Bug::kTrap, "__trap");
}

TEST_P(BrokenKernels, DiagnosisNamesKernelSourceAndThread) {
  expect_fault(Bug::kTrap, "thread 3");
  expect_fault(Bug::kTrap, "kernels_for_tests.cu");
}

TEST_P(BrokenKernels, UnwrittenStaticSharedIsNaN) {
  const std::vector<float> values = results(Bug::kUninitialisedStatic, 64);
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(values[i]), i == 9) << i;
}

TEST_P(BrokenKernels, UnwrittenStaticSharedIsNaNWhateverRanBefore) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(counting(512)), y(512);
  ASSERT_CUDA(reverse_blocks(x.get(), y.get(), 2, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  for (int again = 0; again < 2; ++again) EXPECT_TRUE(std::isnan(results(Bug::kUninitialisedStatic, 64)[9]));
}

TEST_P(BrokenKernels, UnwrittenDynamicSharedIsNaN) {
  const std::vector<float> values = results(Bug::kUninitialisedDynamic, 64);
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(values[i]), i == 9) << i;
}

TEST_P(BrokenKernels, ShuffleFromAnAbsentLaneIsNaN) {
  const std::vector<float> values = results(Bug::kAbsentSource, 64);
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(values[i]), i % 32 < 16) << i;
}

TEST_P(BrokenKernels, OtherDevicesStayHealthy) {
  ASSERT_CUDA(cudaSetDevice(1));
  {
    const StreamOwner healthy;
    ASSERT_CUDA(cudaSetDevice(0));
    const StreamOwner stream;
    const DeviceBuffer<float> out(128);
    ASSERT_CUDA(broken_kernel(Bug::kTrap, out.get(), stream));
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorLaunchFailure);
    ASSERT_CUDA(cudaSetDevice(1));
    EXPECT_EQ(cudaStreamSynchronize(healthy), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(0), cudaErrorLaunchFailure);
    expect_diagnosis("__trap");
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, BrokenKernels, all_orders(),
                         [](const auto& order) { return name_of(order.param); });

TEST_F(EmulatedTest, DependenceBetweenBlocksShowsInReverseOrder) {
  const StreamOwner stream;
  const DeviceBuffer<float> out(8);
  set_order(ThreadOrder::kReverse);
  ASSERT_CUDA(blocks_depend(out.get(), 8, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_TRUE(std::isnan(out.values()[7]));
}

}  // namespace
}  // namespace takt::emulated::test
