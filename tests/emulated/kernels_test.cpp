// Kernels that are right give right answers, in whatever order threads and blocks run.
#include <cmath>
#include <random>

#include "tests/emulated/emulated_test.h"
#include "tests/emulated/kernels_for_tests.h"

namespace takt::emulated::test {
namespace {

class EmulatedKernels : public EmulatedTest, public testing::WithParamInterface<ThreadOrder> {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    set_order(GetParam(), 7);
  }
};

std::vector<float> random_values(std::size_t num) {
  std::mt19937 random(3);
  std::vector<float> values(num);
  for (float& value : values) value = std::uniform_real_distribution<float>(-1, 1)(random);
  return values;
}

TEST_P(EmulatedKernels, EveryThreadOfEveryBlockRunsOnce) {
  const StreamOwner stream;
  const DeviceBuffer<unsigned> out(3 * 2 * 2 * 5 * 7 * 3);
  ASSERT_CUDA(places(out.get(), dim3(3, 2, 2), dim3(5, 7, 3), stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<unsigned> places = out.values();
  for (std::size_t i = 0; i < places.size(); ++i) EXPECT_EQ(places[i], i);
}

TEST_P(EmulatedKernels, ThreadsWithoutBarriers) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(counting(1000)), y(counting(1000, 1));
  ASSERT_CUDA(axpy(2, x.get(), y.get(), 1000, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> result = y.values();
  for (std::size_t i = 0; i < result.size(); ++i) EXPECT_EQ(result[i], 3 * float(i) + 1);
}

TEST_P(EmulatedKernels, ShufflesAndBarriersSumRows) {
  const StreamOwner stream;
  for (const unsigned num_threads : {32u, 64u, 1024u}) {
    Settings changed = settings();
    changed.races_in_blocks = num_threads <= 64;  // a fibre of ThreadSanitizer costs a megabyte
    configure(changed);
    const DeviceBuffer<float> x(counting(5 * 300)), sums(5);
    ASSERT_CUDA(sum_rows(x.get(), sums.get(), 5, 300, num_threads, stream));
    ASSERT_CUDA(cudaStreamSynchronize(stream));
    const std::vector<float> result = sums.values();
    for (std::size_t r = 0; r < 5; ++r) EXPECT_FLOAT_EQ(result[r], float(r) * 90000 + 299 * 150);
  }
}

TEST_P(EmulatedKernels, DynamicSharedMemoryHoldsARow) {
  const StreamOwner stream;
  const std::vector<float> values = random_values(4 * 100);
  const DeviceBuffer<float> x(values), y(values.size());
  ASSERT_CUDA(softmax_rows(x.get(), y.get(), 4, 100, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> result = y.values();
  for (std::size_t r = 0; r < 4; ++r) {
    double sum = 0;
    for (std::size_t c = 0; c < 100; ++c) sum += std::exp(double(values[r * 100 + c]));
    for (std::size_t c = 0; c < 100; ++c)
      EXPECT_NEAR(result[r * 100 + c], std::exp(double(values[r * 100 + c])) / sum, 1e-6);
  }
}

TEST_P(EmulatedKernels, TilesInStaticSharedMemoryMultiply) {
  const StreamOwner stream;
  constexpr unsigned n = 37;
  const std::vector<float> values_a = random_values(n * n), values_b = random_values(n * n);
  const DeviceBuffer<float> a(values_a), b(values_b), c(n * n);
  ASSERT_CUDA(matmul(a.get(), b.get(), c.get(), n, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> result = c.values();
  for (unsigned row = 0; row < n; ++row)
    for (unsigned col = 0; col < n; ++col) {
      double sum = 0;
      for (unsigned i = 0; i < n; ++i) sum += double(values_a[row * n + i]) * double(values_b[i * n + col]);
      EXPECT_NEAR(result[row * n + col], sum, 1e-5);
    }
}

TEST_P(EmulatedKernels, AtomicsCountEverything) {
  const StreamOwner stream;
  std::vector<int> values(1000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = int(i % 7);
  const DeviceBuffer<int> x(values), counts(std::vector<int>(7, 0));
  ASSERT_CUDA(histogram(x.get(), counts.get(), 1000, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(counts.values(), (std::vector<int>{143, 143, 143, 143, 143, 143, 142}));
}

TEST_P(EmulatedKernels, BarrierOrdersSharedMemory) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(counting(512)), y(512);
  ASSERT_CUDA(reverse_blocks(x.get(), y.get(), 2, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> result = y.values();
  for (std::size_t i = 0; i < 512; ++i) EXPECT_EQ(result[i], float(i / 256 * 256 + 255 - i % 256));
}

TEST_P(EmulatedKernels, Bf16AndFloatAtomics) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(counting(100)), sum(std::vector<float>{0});
  const DeviceBuffer<__nv_bfloat16> y(100);
  ASSERT_CUDA(scale_bf16(x.get(), y.get(), sum.get(), 0.5f, 100, stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(__bfloat162float(y.values()[99]), 49.5f);
  EXPECT_EQ(sum.values()[0], 2475.0f);
}

TEST_P(EmulatedKernels, WarpOperations) {
  const StreamOwner stream;
  const DeviceBuffer<unsigned> out(224);
  ASSERT_CUDA(warp_operations(out.get(), stream));
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<unsigned> result = out.values();
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(result[lane], lane == 0 ? 0 : lane - 1);
    EXPECT_EQ(result[32 + lane], lane % 8 < 6 ? lane + 2 : lane);
    EXPECT_EQ(result[64 + lane], lane ^ 5);
    EXPECT_EQ(result[96 + lane], 0x49249249u);
    EXPECT_EQ(result[128 + lane], 496u);
    EXPECT_EQ(result[160 + lane], 101u);
    EXPECT_EQ(lane < 16 ? result[192 + lane] : 15u, 15u);
  }
}

TEST_P(EmulatedKernels, ParametersAreCopiedAtTheLaunch) {
  const StreamOwner stream;
  const DeviceBuffer<float> x(counting(10)), y(10);
  Coefficients coefficients;
  coefficients.values[0] = 1;
  coefficients.values[2] = 3;
  ASSERT_CUDA(polynomial(coefficients, x.get(), y.get(), 10, stream));
  coefficients.values[0] = 100;
  ASSERT_CUDA(cudaStreamSynchronize(stream));
  const std::vector<float> result = y.values();
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(result[i], 1 + 3 * float(i) * float(i));
}

INSTANTIATE_TEST_SUITE_P(Orders, EmulatedKernels, all_orders(),
                         [](const auto& order) { return name_of(order.param); });

}  // namespace
}  // namespace takt::emulated::test
