// What a GPU can do at best, from its data sheet: what MFU and benchmarks are measured against.
#pragma once

#include <optional>
#include <string_view>

#include "core/device/topology.h"

namespace takt {

// Dense, without structured sparsity, at the boost clock.
struct GpuPeaks {
  double bf16_flops_per_s = 0;  // tensor cores, sums in f32
  double f32_flops_per_s = 0;   // plain f32: how Takt multiplies f32
  double tf32_flops_per_s =
      0;  // tensor cores with rounded operands, which Takt does not use; to compare with others
  double memory_bytes_per_s = 0;
};

// By the name that CUDA gives the GPU; nullopt: not in the table, so that nothing is said of its peak.
std::optional<GpuPeaks> peaks_of(std::string_view gpu_name);

// The peak of the products of a training in f32 or, with `bf16`, in mixed precision; 0 where it is not known.
double peak_flops_per_s(const GpuInfo& gpu, bool bf16);

}  // namespace takt
