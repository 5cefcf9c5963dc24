// The arithmetic peak of the CPU threads of a rank, measured.
#pragma once

#include <functional>

namespace takt {

// FLOP/s of the best of a few f32 matrix products on `num_threads` threads; takes about a quarter of a
// second. With all ranks of a host measuring at once it is what they have together, which is what a step can use.
// after_each_run: called between runs, for whoever must show that it is alive; empty: nobody.
double measure_peak_flops_per_s(int num_threads, const std::function<void()>& after_each_run = {});

}  // namespace takt
