// How long the programs of benchmarks take.
#pragma once

#include "collectives/communicator.h"
#include "core/exec/executor.h"

namespace takt {

struct BenchTiming {
  int num_samples = 11;
  double sample_s = 0.02;  // a sample runs the program as often as that takes, at least once
};

// Of one run, over the samples.
struct BenchTime {
  double median_s = 0, min_s = 0, max_s = 0;
  int runs_a_sample = 0;
};

// Fills the operands of all programs with random numbers: zeros would cost a GPU less power, and so be faster.
void fill_operands(Executor& executor);

// Times program number `program`, after a warm-up. Every rank of `all` calls it, whether the plan is for all ranks or each
// has its own: all run at once, as they do in a step, and a sample takes as long as on the slowest.
BenchTime time_program(Executor& executor, int program, Communicator& all, const BenchTiming& timing);

}  // namespace takt
