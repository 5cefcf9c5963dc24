// Peaks of GPUs by name: the right row, and none where there is none.
#include "core/device/gpu_peaks.h"

#include <gtest/gtest.h>

namespace takt {
namespace {

double bf16_tflops(const char* name) {
  const std::optional<GpuPeaks> peaks = peaks_of(name);
  return peaks ? peaks->bf16_flops_per_s / 1e12 : 0;
}

TEST(GpuPeaks, NamesThatContainOthersHaveTheirOwn) {
  EXPECT_EQ(bf16_tflops("NVIDIA H100 80GB HBM3"), 989.5);
  EXPECT_EQ(bf16_tflops("NVIDIA H100 PCIe"), 756.5);
  EXPECT_EQ(bf16_tflops("NVIDIA H100 NVL"), 835.5);
  EXPECT_EQ(bf16_tflops("NVIDIA H200"), 989.5);
  EXPECT_EQ(bf16_tflops("NVIDIA GH200 480GB"), 989.5);
  EXPECT_EQ(bf16_tflops("NVIDIA B200"), 2250);
  EXPECT_EQ(bf16_tflops("NVIDIA GB200"), 2500);
  EXPECT_EQ(bf16_tflops("NVIDIA RTX PRO 6000 Blackwell Server Edition"), 480);
  EXPECT_EQ(bf16_tflops("NVIDIA RTX PRO 6000 Blackwell Workstation Edition"), 503.8);
}

TEST(GpuPeaks, OfAnUnknownGpuAreNotGuessed) {
  EXPECT_FALSE(peaks_of("NVIDIA A100-SXM4-80GB").has_value());
  EXPECT_EQ(peak_flops_per_s({.name = "NVIDIA T4"}, true), 0);
}

TEST(GpuPeaks, PrecisionDecides) {
  const GpuInfo gpu{.name = "NVIDIA H100 80GB HBM3"};
  EXPECT_EQ(peak_flops_per_s(gpu, true), 989.5e12);
  EXPECT_EQ(peak_flops_per_s(gpu, false), 67e12);
}

}  // namespace
}  // namespace takt
