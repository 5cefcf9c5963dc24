// A GPU runs what is queued while the host goes on: reading a few bytes back waits for all of it.
#include "launch/bench_time.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <vector>

#include "core/base/bf16.h"
#include "core/base/rng.h"

namespace takt {
namespace {

template <class T>
std::vector<T> random_block(std::size_t num_elements) {
  const RandomStream random(1, "bench");
  std::vector<T> block(num_elements);
  for (std::size_t i = 0; i < num_elements; ++i) block[i] = stored<T>(random.normal(i));
  return block;
}

// The same block again and again.
template <class T>
void fill_with(Executor& executor, const PersistentValue& value, const std::vector<T>& block) {
  const auto num_elements = static_cast<std::size_t>(value.desc.num_elements());
  for (std::size_t first = 0; first < num_elements; first += block.size()) {
    const std::span<const T> part(block.data(), std::min(block.size(), num_elements - first));
    executor.write_part(value.name, first * sizeof(T), std::as_bytes(part));
  }
}

double largest(Communicator& all, double number) {
  all.all_reduce(&number, 1, DType::kF64, ReduceOp::kMax, {"bench"});
  return number;
}

// Seconds of one run, on the slowest rank.
double sample(Executor& executor, int program, int num_runs, Communicator& all) {
  using Clock = std::chrono::steady_clock;
  all.barrier({"bench"});
  const Clock::time_point start = Clock::now();
  for (int run = 0; run < num_runs; ++run) executor.run({.program = program});
  std::array<std::byte, 4> bytes;
  executor.read_part(executor.plan().table.values().front().name, 0, bytes);
  return largest(all, std::chrono::duration<double>(Clock::now() - start).count()) / num_runs;
}

}  // namespace

void fill_operands(Executor& executor) {
  constexpr std::size_t kBlock = 1 << 18;
  const std::vector<float> floats = random_block<float>(kBlock);
  const std::vector<BF16> halves = random_block<BF16>(kBlock);
  for (const PersistentValue& value : executor.plan().table.values()) {
    if (value.role != Role::kState) continue;
    if (value.desc.dtype == DType::kBF16)
      fill_with(executor, value, halves);
    else
      fill_with(executor, value, floats);
  }
  executor.run(Action{.kind = Action::Kind::kClearAccumulators});
}

BenchTime time_program(Executor& executor, int program, Communicator& all, const BenchTiming& timing) {
  constexpr double kMostRuns = 10000;
  sample(executor, program, 1, all);  // records graphs, touches memory
  const double once_s = sample(executor, program, 1, all);
  BenchTime time{.runs_a_sample =
                     static_cast<int>(std::clamp(std::ceil(timing.sample_s / once_s), 1.0, kMostRuns))};
  std::vector<double> samples;
  for (int i = 0; i < timing.num_samples; ++i)
    samples.push_back(sample(executor, program, time.runs_a_sample, all));
  std::sort(samples.begin(), samples.end());
  time.min_s = samples.front();
  time.max_s = samples.back();
  time.median_s = samples[samples.size() / 2];
  return time;
}

}  // namespace takt
