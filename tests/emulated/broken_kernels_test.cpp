// Kernels that are wrong are found out, in whatever order threads run.
#include <cmath>
#include <tuple>

#include "tests/emulated/emulated_test.h"
#include "tests/emulated/kernels_for_tests.h"

namespace takt::emulated::test {
namespace {

class KernelFault : public EmulatedTest {
 protected:
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
};

struct Diagnosed {
  const char* name;
  Bug bug;
  const char* diagnosis;
};
const Diagnosed kFaults[] = {
    {"DivergentBarrier", Bug::kDivergentBarrier, "divergent __syncthreads"},
    {"BarrierAfterAThreadFinished", Bug::kBarrierAfterExit, "finished"},
    {"BarrierAgainstWarpOperation", Bug::kBarrierAgainstWarp, "no thread can go on"},
    {"WarpMateThatNeverComes", Bug::kLostWarpMate, "__syncthreads"},
    {"MaskWithoutCaller", Bug::kMaskWithoutCaller, "does not name the lane"},
    {"OverlappingMasks", Bug::kOverlappingMasks, "no thread can go on: 0 wait at __syncthreads, 64"},
    {"DifferentShuffles", Bug::kDifferentShuffles, "different warp operations"},
    {"DynamicSharedOverflow", Bug::kDynamicOverflow,
     "wrote behind its 256 bytes of dynamic shared memory, at offset 256"},
    {"Trap", Bug::kTrap, "__trap"}};

class FaultyKernels : public KernelFault,
                      public testing::WithParamInterface<std::tuple<ThreadOrder, Diagnosed>> {};

TEST_P(FaultyKernels, BreakTheDeviceWithADiagnosis) {
  const auto& [order, fault] = GetParam();
  set_order(order, 11);
  expect_fault(fault.bug, fault.diagnosis);
}

INSTANTIATE_TEST_SUITE_P(Orders, FaultyKernels, testing::Combine(all_orders(), testing::ValuesIn(kFaults)),
                         [](const auto& fault) {
                           return name_of(std::get<0>(fault.param)) + std::get<1>(fault.param).name;
                         });

class BrokenKernels : public KernelFault, public testing::WithParamInterface<ThreadOrder> {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    set_order(GetParam(), 11);
  }

  static std::vector<float> results(Bug bug) {
    const StreamOwner stream;
    const DeviceBuffer<float> out(counting(128));
    EXPECT_CUDA(broken_kernel(bug, out.get(), stream));
    EXPECT_CUDA(cudaStreamSynchronize(stream));
    return out.values();
  }

  // Of the first 64 results, those with a number that `is_nan` is true of.
  template <class IsNaN>
  static void expect_nan(Bug bug, const IsNaN& is_nan) {
    const std::vector<float> values = results(bug);
    for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(std::isnan(values[i]), is_nan(i)) << i;
  }
};

TEST_P(BrokenKernels, MissingBarrierGivesWrongResults) {
  const std::vector<float> values = results(Bug::kMissingBarrier);
  int num_wrong = 0;
  for (std::size_t i = 0; i < 64; ++i) num_wrong += values[64 + i] != float(63 - i);
  EXPECT_GT(num_wrong, 16);
}

TEST_P(BrokenKernels, DiagnosisNamesKernelSourceAndThread) {
  expect_fault(Bug::kTrap, "thread 3");
  expect_fault(Bug::kTrap, "kernels_for_tests.cu");
}

TEST_P(BrokenKernels, UnwrittenStaticSharedIsNaN) {
  expect_nan(Bug::kUninitialisedStatic, [](std::size_t i) { return i == 9; });
}

TEST_P(BrokenKernels, UnwrittenStaticSharedIsNaNWhateverRanBefore) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(counting(512)), y(512);
  ASSERT_CUDA(reverse_blocks(x.get(), y.get(), 2, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  for (int again = 0; again < 2; ++again) EXPECT_TRUE(std::isnan(results(Bug::kUninitialisedStatic)[9]));
}

TEST_P(BrokenKernels, UnwrittenDynamicSharedIsNaN) {
  expect_nan(Bug::kUninitialisedDynamic, [](std::size_t i) { return i == 9; });
}

TEST_P(BrokenKernels, ShuffleFromAnAbsentLaneIsNaN) {
  expect_nan(Bug::kAbsentSource, [](std::size_t i) { return i % 32 < 16; });
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
