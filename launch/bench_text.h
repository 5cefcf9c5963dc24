// What `takt bench` found, as a table and as JSON.
#pragma once

#include <string>
#include <vector>

#include "launch/bench_time.h"
#include "launch/benchmarks.h"

namespace takt {

struct BenchResult {
  Benchmark benchmark;
  BenchTime time;
};

struct BenchReport {
  std::string version;  // "0.1.0 (cpu+cuda, git 1a2b3c4)"
  std::string device;   // "cuda: NVIDIA B200"
  int num_ranks = 1;
  int num_hosts = 1;
  BenchTiming timing;
  std::vector<BenchResult> results;
};

std::string bench_text(const BenchReport& report);
std::string bench_json(const BenchReport& report);

}  // namespace takt
