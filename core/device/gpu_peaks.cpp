// NVIDIA's data sheets give tensor cores with sparsity, twice the dense rate, except where the line says otherwise:
//
//   H100, H200            data sheets "NVIDIA H100 Tensor Core GPU" and "NVIDIA H200 Tensor Core GPU"
//   GH200                 data sheet "NVIDIA GH200 Grace Hopper Superchip"
//   B200, B300            data sheets of HGX B200 and HGX B300, an eighth of the board; memory is given a GPU
//   GB200, GB300          data sheets of GB200 NVL72 and GB300 NVL72, a 72nd of the rack
//   RTX PRO 6000          "NVIDIA RTX Blackwell PRO GPU Architecture" (workstation); the data sheets of the server and the
//                         Max-Q edition say f32 only: tensor cores are taken as 4 x that in bf16 and 2 x in TF32, the ratios
//                         of the workstation's, which has the same multiprocessors
#include "core/device/gpu_peaks.h"

#include <array>

namespace takt {
namespace {

struct Row {
  std::string_view in_name;  // what the name contains
  double bf16, f32, tf32;    // TFLOP/s, dense
  double memory;             // TB/s
};

// The first row that fits counts: longer names stand before those that they contain.
constexpr std::array kRows = {
    Row{"GB300", 2500, 80, 1250, 8.0},
    Row{"B300", 2250, 75, 1125, 7.7},
    Row{"GB200", 2500, 80, 1250, 8.0},
    Row{"B200", 2250, 75, 1125, 7.7},
    Row{"GH200", 989.5, 67, 494.5, 4.0},
    Row{"H200 NVL", 835.5, 60, 417.5, 4.8},
    Row{"H200", 989.5, 67, 494.5, 4.8},
    Row{"H100 NVL", 835.5, 60, 417.5, 3.9},
    Row{"H100 PCIe", 756.5, 51, 378, 2.0},
    Row{"H100", 989.5, 67, 494.5, 3.35},
    Row{"RTX PRO 6000 Blackwell Server", 480, 120, 240, 1.597},
    Row{"RTX PRO 6000 Blackwell Max-Q", 440, 110, 220, 1.792},
    Row{"RTX PRO 6000 Blackwell", 503.8, 126, 251.9, 1.792},
};

}  // namespace

std::optional<GpuPeaks> peaks_of(std::string_view gpu_name) {
  for (const Row& row : kRows)
    if (gpu_name.find(row.in_name) != std::string_view::npos)
      return GpuPeaks{.bf16_flops_per_s = 1e12 * row.bf16,
                      .f32_flops_per_s = 1e12 * row.f32,
                      .tf32_flops_per_s = 1e12 * row.tf32,
                      .memory_bytes_per_s = 1e12 * row.memory};
  return std::nullopt;
}

double peak_flops_per_s(const GpuInfo& gpu, bool bf16) {
  const std::optional<GpuPeaks> peaks = peaks_of(gpu.name);
  if (!peaks) return 0;
  return bf16 ? peaks->bf16_flops_per_s : peaks->f32_flops_per_s;
}

}  // namespace takt
