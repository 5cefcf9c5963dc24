// Which of Takt's cuDNN graphs the installed cuDNN has engines for, on GPUs that are described and not there.
//
// cuDNN makes plans from a description of a device since 9.8 and compiles their kernels in doing so. Nothing runs. Prints a
// table; a graph that is no longer supported, or that wants more workspace than Takt sets aside, fails the test. One that is
// newly supported too: then the fallback and what is written about it can go.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/device/cuda/cudnn_attention.h"
#include "tests/cuda/cudnn_convolution.h"

namespace takt {
namespace {

// Data sheets; what a device itself would tell replaces them when there is one.
struct Gpu {
  const char* name;
  int capability, num_multiprocessors, shared_bytes_a_block, l2_bytes;
  std::int64_t memory_bytes;
};
constexpr Gpu kH100{"NVIDIA H100 80GB HBM3", 900, 132, 232448, 52428800, 85'000'000'000};
constexpr Gpu kB200{"NVIDIA B200", 1000, 148, 232448, 132644864, 190'000'000'000};
constexpr Gpu kRtxPro6000{
    "NVIDIA RTX PRO 6000 Blackwell Server Edition", 1200, 188, 101376, 134217728, 102'000'000'000};

CudnnDescriptor properties_of(const Gpu& gpu) {
  const std::string json = concat(
      R"({"maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"warpSize":32,)",
      R"("maxSharedMemoryPerBlock":49152,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)",
      R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)",
      R"("supportCoopLaunch":1,"smClockRateKHz":1980000,"memClockRateKHz":2619000,"cudaDeviceId":0,"driverVer":13000,)",
      R"("multiProcessorCount":)", gpu.num_multiprocessors, R"(,"maxSharedMemoryPerBlockOptin":)",
      gpu.shared_bytes_a_block, R"(,"l2CacheSize":)", gpu.l2_bytes, R"(,"totalGlobalMem":)", gpu.memory_bytes,
      R"(,"deviceVer":)", gpu.capability, R"(,"deviceName":")", gpu.name, R"("})");
  CudnnDescriptor properties(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
  properties
      .set_array(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                 static_cast<std::int64_t>(json.size()), json.data())
      .finalize();
  return properties;
}

struct Row {
  std::string name;
  bool supported;
  CudnnGraph graph;
  std::size_t workspace_limit;
};

class CudnnPlans : public testing::TestWithParam<Gpu> {
 protected:
  // Asks for a plan and prints a line.
  void check(Row row) {
    const auto start = std::chrono::steady_clock::now();
    const CudnnPlanning planning = plan_cudnn_graph(
        std::move(row.graph), {.device_properties = properties_.handle()}, row.workspace_limit);
    const auto ms =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
    if (planning.plan)
      std::printf("  %-46s engine %2d, workspace %9zu of %9zu  %5d ms\n", row.name.c_str(),
                  static_cast<int>(planning.plan->engine()), planning.plan->workspace_bytes(),
                  row.workspace_limit, static_cast<int>(ms.count()));
    else
      std::printf("  %-46s refused: %s\n", row.name.c_str(),
                  planning.refusal.substr(0, planning.refusal.find('\n')).c_str());
    EXPECT_EQ(planning.plan.has_value(), row.supported) << row.name << "\n" << planning.refusal;
  }

  void check_attention(const std::string& name, const CudnnAttentionShape& shape, bool forward,
                       bool backward) {
    check({"attention " + name, forward, cudnn_attention(shape),
           cudnn_attention_workspace_bytes(shape, false)});
    check({"attention_grad " + name, backward, cudnn_attention_grad(shape),
           cudnn_attention_workspace_bytes(shape, true)});
  }

 private:
  CudnnDescriptor properties_ = properties_of(GetParam());
};

void PrintTo(const Gpu& gpu, std::ostream* out) {
  *out << gpu.name;
}

TEST_P(CudnnPlans, ExistForAttention) {
  std::printf("cuDNN %zu, %s\n", cudnnGetVersion(), GetParam().name);
  const bool is_h100 = GetParam().capability == 900;
  check_attention("width 64",
                  {.batch = 2, .seq = 256, .heads = 4, .kv_heads = 4, .width = 64, .kv_heads_in_memory = 4},
                  true, true);
  check_attention("width 128, grouped, some key heads, odd length",
                  {.batch = 2, .seq = 1023, .heads = 8, .kv_heads = 2, .width = 128, .kv_heads_in_memory = 4},
                  true, true);
  // Blackwell's engines have no gradient of wider heads.
  const CudnnAttentionShape wide{
      .batch = 1, .seq = 128, .heads = 2, .kv_heads = 2, .width = 256, .kv_heads_in_memory = 2};
  check({"attention_grad width 256", is_h100, cudnn_attention_grad(wide),
         cudnn_attention_workspace_bytes(wide, true)});
  const CudnnAttentionShape odd{
      .batch = 1, .seq = 128, .heads = 2, .kv_heads = 2, .width = 6, .kv_heads_in_memory = 2};
  check_attention("width 6", odd, false, false);
  CudnnAttentionShape f32{
      .batch = 1, .seq = 128, .heads = 2, .kv_heads = 2, .width = 64, .kv_heads_in_memory = 2};
  f32.dtype = DType::kF32;
  check({"attention_grad f32", false, cudnn_attention_grad(f32), cudnn_attention_workspace_bytes(f32, true)});
}

TEST_P(CudnnPlans, ExistForConvolutions) {
  for (const DType dtype : {DType::kBF16, DType::kF32})
    for (const bool channels_last : {true, false})
      for (const auto kind :
           {Convolution::kForward, Convolution::kDataGradient, Convolution::kFilterGradient}) {
        const char* name = kind == Convolution::kForward        ? "convolution"
                           : kind == Convolution::kDataGradient ? "convolution, gradient of data"
                                                                : "convolution, gradient of filter";
        const ConvolutionShape shape{.batch = 8,
                                     .channels = 64,
                                     .height = 32,
                                     .width = 32,
                                     .filters = 128,
                                     .window = 3,
                                     .padding = 1,
                                     .stride = 1,
                                     .channels_last = channels_last,
                                     .dtype = dtype};
        check({concat(name, ", ", dtype, channels_last ? ", nhwc" : ", nchw"), true,
               convolution_graph(kind, shape), std::size_t{1} << 25});
      }
}

std::string name_of_gpu(const testing::TestParamInfo<Gpu>& test) {
  return "sm_" + std::to_string(test.param.capability / 10);
}

INSTANTIATE_TEST_SUITE_P(Gpus, CudnnPlans, testing::Values(kH100, kB200, kRtxPro6000), name_of_gpu);

}  // namespace
}  // namespace takt
