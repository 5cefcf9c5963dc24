// The arithmetic peak of the CPU threads of a rank, measured.
#pragma once

namespace takt {

// FLOP/s of the best of a few f32 matrix products on `num_threads` threads; takes about a quarter of a
// second. With all ranks of a host measuring at once it is what they have together, which is what a step can
// use.
double measure_peak_flops_per_s(int num_threads);

}  // namespace takt
