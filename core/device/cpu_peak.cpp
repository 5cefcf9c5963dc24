// The peak is what oneDNN reaches on a product that fits the cache: no step can do better.
#include "core/device/cpu_peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "core/device/onednn.h"

namespace takt {

double measure_peak_flops_per_s(int num_threads, const std::function<void()>& after_each_run) {
  constexpr std::int64_t kExtent = 512;
  constexpr int kRuns = 64;
  set_cpu_threads(num_threads);
  OnednnMatmul product({.m = kExtent, .n = kExtent, .k = kExtent}, num_threads);
  const std::vector<float> a(kExtent * kExtent, 0.5f), b(kExtent * kExtent, 0.25f);
  std::vector<float> c(kExtent * kExtent);
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> scratch(product.scratch_bytes() / sizeof(Line) + 1);
  double best_s = 1e9;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    product.run(a.data(), b.data(), nullptr, c.data(), scratch.data());
    best_s =
        std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    if (after_each_run) after_each_run();
  }
  return 2.0 * static_cast<double>(kExtent * kExtent * kExtent) / best_s;
}

}  // namespace takt
