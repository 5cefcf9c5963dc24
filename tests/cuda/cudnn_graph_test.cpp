// Graphs through cuDNN, the real one on a GPU or its double, against plain loops in double precision.
#include "core/device/cuda/cudnn_graph.h"

#include <gmock/gmock.h>

#include <array>

#include "core/base/rng.h"
#include "core/device/cuda/cudnn_attention.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/cudnn_convolution.h"
#include "tests/cuda/device_tensor.h"
#include "tests/tolerance.h"

namespace takt {
namespace {

using CudnnGraphTest = CudaTest;

std::vector<double> random_elements(std::size_t num, const char* name, DType dtype) {
  const RandomStream random(7, name);
  std::vector<double> values(num);
  for (std::size_t i = 0; i < num; ++i) values[i] = rounded(static_cast<double>(random.normal(i)), dtype);
  return values;
}

std::int64_t product_of(const CudnnDims& dims) {
  std::int64_t num = 1;
  for (const std::int64_t extent : dims) num *= extent;
  return num;
}

TensorDesc flat(const CudnnDims& dims, DType dtype) {
  return {{{"elements", product_of(dims)}}, dtype};
}

std::size_t offset(const CudnnDims& strides, std::array<std::int64_t, 4> at) {
  std::int64_t sum = 0;
  for (std::size_t d = 0; d < 4; ++d) sum += at[d] * strides[d];
  return static_cast<std::size_t>(sum);
}

// Adds a * b to the third for every product of the convolution; x, w and y are offsets in memory.
template <class F>
void over_products(const ConvolutionShape& s, const F& f) {
  const CudnnDims x = s.x(), w = s.w(), y = s.y();
  const CudnnDims sx = s.strides(x), sw = s.strides(w), sy = s.strides(y);
  for (std::int64_t i = 0; i < product_of(y); ++i)
    for (std::int64_t tap = 0; tap < w[1] * w[2] * w[3]; ++tap) {
      const std::int64_t q = i % y[3], p = i / y[3] % y[2], k = i / (y[3] * y[2]) % y[1],
                         n = i / (y[3] * y[2] * y[1]);
      const std::int64_t b = tap % w[3], a = tap / w[3] % w[2], c = tap / (w[3] * w[2]);
      const std::int64_t row = p * s.stride - s.padding + a, column = q * s.stride - s.padding + b;
      if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) continue;
      f(offset(sx, {n, c, row, column}), offset(sw, {k, c, a, b}), offset(sy, {n, k, p, q}));
    }
}

void expect_near(const std::vector<double>& found, const std::vector<double>& wanted, double bound) {
  double largest = 0;
  for (const double x : wanted) largest = std::max(largest, std::abs(x));
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i)
    ASSERT_NEAR(found[i], wanted[i], bound * largest) << "element " << i;
}

void expect_convolution(Convolution kind, const ConvolutionShape& s) {
  CudaContext context;
  const std::array dims = {s.x(), s.w(), s.y()};
  const std::size_t result = kind == Convolution::kForward ? 2 : kind == Convolution::kDataGradient ? 0 : 1;
  std::array<std::vector<double>, 3> elements;
  std::deque<DeviceTensor> tensors;
  std::vector<void*> pointers;
  for (std::size_t i = 0; i < 3; ++i) {
    elements[i] = random_elements(static_cast<std::size_t>(product_of(dims[i])),
                                  i == 0   ? "x"
                                  : i == 1 ? "w"
                                           : "y",
                                  s.dtype);
    if (i == result) elements[i].assign(elements[i].size(), 0.0);
    pointers.push_back(tensors.emplace_back(flat(dims[i], s.dtype), elements[i]).data());
  }
  CudnnPlanning planning = plan_cudnn_graph(convolution_graph(kind, s), {context.cudnn()}, 1 << 24);
  ASSERT_TRUE(planning.plan) << planning.refusal;
  const DeviceMemory workspace(planning.plan->workspace_bytes());
  planning.plan->run(context.cudnn(), context.compute_stream().get(), pointers, workspace.data());
  context.synchronize();
  over_products(s, [&](std::size_t x, std::size_t w, std::size_t y) {
    if (result == 2) elements[2][y] += elements[0][x] * elements[1][w];
    if (result == 0) elements[0][x] += elements[2][y] * elements[1][w];
    if (result == 1) elements[1][w] += elements[2][y] * elements[0][x];
  });
  expect_near(tensors[result].elements(), elements[result], tolerance(s.dtype));
}

TEST_F(CudnnGraphTest, Convolves) {
  for (const auto kind : {Convolution::kForward, Convolution::kDataGradient, Convolution::kFilterGradient})
    for (const DType dtype : {DType::kF32, DType::kBF16})
      for (const bool channels_last : {false, true})
        expect_convolution(kind, {.batch = 2,
                                  .channels = 8,
                                  .height = 9,
                                  .width = 9,
                                  .filters = 8,
                                  .window = 3,
                                  .padding = 1,
                                  .stride = 2,
                                  .channels_last = channels_last,
                                  .dtype = dtype});
}

TEST(CudnnGraph, NamesTheConditionThatDoesNotHold) {
  CudnnGraph g;
  const CudnnTensor a = g.tensor({1, 4, 8}, {32, 8, 1}, CUDNN_DATA_FLOAT),
                    b = g.tensor({1, 7, 8}, {56, 8, 1}, CUDNN_DATA_FLOAT);
  try {
    g.matmul(a, b, g.tensor({1, 4, 8}, {32, 8, 1}, CUDNN_DATA_FLOAT));
    FAIL() << "a product whose sizes differ was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kBug);
    EXPECT_THAT(error.what(), testing::HasSubstr("cudnnBackendFinalize"));
  }
}

TEST_F(CudnnGraphTest, PlansWithinALimitOfWorkspaceOrSaysWhy) {
  CudaContext context;
  const CudnnAttentionShape wide{
      .batch = 1, .seq = 16, .heads = 2, .kv_heads = 2, .width = 4096, .kv_heads_in_memory = 2};
  const CudnnPlanning refused = plan_cudnn_graph(cudnn_attention_grad(wide), {context.cudnn()}, 1 << 24);
  EXPECT_FALSE(refused.plan);
  EXPECT_FALSE(refused.refusal.empty());
}

TEST_F(CudnnGraphTest, RunsOnOtherPointersAndOtherStreams) {
  CudaContext context;
  CudnnGraph g;
  const CudnnDims dims = {1, 4, 8}, strides = row_major_strides(dims);
  const CudnnTensor x = g.tensor(dims, strides, CUDNN_DATA_FLOAT),
                    y = g.tensor(dims, strides, CUDNN_DATA_FLOAT);
  g.pointwise(CUDNN_POINTWISE_RELU_FWD, {x}, y);
  CudnnPlanning planning = plan_cudnn_graph(std::move(g), {context.cudnn()}, 1 << 24);
  ASSERT_TRUE(planning.plan) << planning.refusal;
  const DeviceMemory workspace(planning.plan->workspace_bytes());
  for (const int stream : {0, 1}) {
    const auto elements = random_elements(32, stream == 0 ? "first" : "second", DType::kF32);
    DeviceTensor from(flat(dims, DType::kF32), elements), to(flat(dims, DType::kF32));
    const std::array<void*, 2> pointers = {from.data(), to.data()};
    planning.plan->run(context.cudnn(), context.stream(stream).get(), pointers, workspace.data());
    context.synchronize();
    std::vector<double> wanted = elements;
    for (double& value : wanted) value = std::max(value, 0.0);
    EXPECT_EQ(to.elements(), wanted);
  }
}

}  // namespace
}  // namespace takt
