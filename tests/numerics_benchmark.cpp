// What train.numerics = "invariant" costs: steps of the quickstart's model, and products, in both modes, taken in turns so
// that both see the same machine.
// Run: build/cpu/tests/takt_benchmarks --benchmark_filter=numerics     counters: medians in ms, and their ratio
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "collectives/local.h"
#include "core/base/rng.h"
#include "core/device/onednn.h"
#include "core/ops/ordered_product.h"
#include "core/train/language_task.h"
#include "core/train/trainer.h"

namespace takt {
namespace {

using Clock = std::chrono::steady_clock;

double ms_of(const auto& run) {
  const Clock::time_point start = Clock::now();
  run();
  return 1e3 * std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void report(benchmark::State& state, const std::vector<double>& fast, const std::vector<double>& invariant) {
  state.counters["fast_ms"] = median(fast);
  state.counters["invariant_ms"] = median(invariant);
  state.counters["ratio"] = median(invariant) / median(fast);
}

constexpr std::int64_t kVocab = 2048, kSeq = 128;

class RandomTokens final : public Dataset {
 public:
  std::int64_t num_samples() const override { return 1 << 16; }
  std::uint64_t content_hash() const override { return 1; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override {
    for (const NamedBuffer& buffer : buffers) {
      auto* to = reinterpret_cast<std::int32_t*>(buffer.bytes.data());
      for (const std::int64_t sample : samples)
        for (std::int64_t i = 0; i < kSeq; ++i)
          *to++ =
              static_cast<std::int32_t>(random_.below(static_cast<std::uint64_t>(sample * kSeq + i), kVocab));
    }
  }

 private:
  RandomStream random_{1, "tokens"};
};

StepConfig config_of(Numerics numerics, Precision precision) {
  StepConfig config{.global_batch = 16, .micro_batch = 8, .precision = precision, .numerics = numerics};
  config.optimizer.lr = 1e-4;
  return config;
}

// A trainer of examples/gpt/kjv.toml on a mesh of threads.
struct Mode {
  Mode(const Task& task, const StepConfig& step, const Mesh& mesh)
      : config(step), plan(compile_step(task, step, mesh, 1)) {}
  StepConfig config;
  StepPlan plan;
};

void train_in_turns(const Task& task, const Mode& fast, const Mode& invariant, Communicator& world,
                    benchmark::State& state) {
  const RandomTokens data;
  const DataOrder order(1, data.num_samples());
  Trainer one(task, fast.config, fast.plan, world), other(task, invariant.config, invariant.plan, world);
  one.initialize_weights();
  other.initialize_weights();
  std::vector<double> fast_ms, invariant_ms;
  constexpr int kWarmUp = 2, kSteps = 9;
  for (int step = 0; step < kWarmUp + kSteps; ++step) {
    const double a = ms_of([&] { one.step(data, order); }), b = ms_of([&] { other.step(data, order); });
    if (step < kWarmUp) continue;
    fast_ms.push_back(a);
    invariant_ms.push_back(b);
  }
  if (world.rank() == 0) report(state, fast_ms, invariant_ms);
}

void numerics_step(benchmark::State& state, int data, int tensor, Precision precision) {
  const LanguageTask task(
      complete_gpt({.layers = 4, .embed = 128, .heads = 4, .vocab = kVocab, .seq = kSeq}));
  const Mesh mesh{{{"data", data, 1}, {"tensor", tensor}}};
  const Mode fast(task, config_of(Numerics::kFast, precision), mesh),
      invariant(task, config_of(Numerics::kInvariant, precision), mesh);
  for (auto _ : state)
    run_ranks(mesh.num_ranks(),
              [&](Communicator& world) { train_in_turns(task, fast, invariant, world, state); });
}
BENCHMARK_CAPTURE(numerics_step, one_rank_f32, 1, 1, Precision::kF32)
    ->Iterations(1)
    ->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(numerics_step, one_rank_bf16, 1, 1, Precision::kBF16)
    ->Iterations(1)
    ->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(numerics_step, data_2_f32, 2, 1, Precision::kF32)->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(numerics_step, tensor_2_f32, 1, 2, Precision::kF32)
    ->Iterations(1)
    ->Unit(benchmark::kSecond);

// y[m, n] = a[m, k] b[n, k]: a product of the forward pass, by oneDNN and in one order.
void numerics_matmul(benchmark::State& state, std::int64_t m, std::int64_t n, std::int64_t k) {
  const MatmulShape shape{.m = m, .n = n, .k = k, .transpose_b = true};
  OnednnMatmul fast(shape, 1);
  const OrderedProduct ordered(shape, {.extent = k, .num_pieces = 8}, 1);
  std::vector<float> a(static_cast<std::size_t>(m * k), 0.5f), b(static_cast<std::size_t>(n * k), 0.25f),
      y(static_cast<std::size_t>(m * n));
  std::vector<std::byte> scratch(std::max(fast.scratch_bytes(), ordered.scratch_bytes()) + 64);
  void* aligned = scratch.data();
  std::size_t space = scratch.size();
  std::align(64, space - 64, aligned, space);
  std::vector<double> fast_ms, ordered_ms;
  for (auto _ : state) {
    fast_ms.push_back(ms_of([&] { fast.run(a.data(), b.data(), nullptr, y.data(), aligned); }));
    ordered_ms.push_back(ms_of([&] { ordered.run(a.data(), b.data(), nullptr, y.data(), aligned); }));
  }
  report(state, fast_ms, ordered_ms);
  state.counters["ordered GFLOP/s"] = 2e-6 * static_cast<double>(m * n * k) / median(ordered_ms);
}
BENCHMARK_CAPTURE(numerics_matmul, quickstart_up, 1024, 352, 128);
BENCHMARK_CAPTURE(numerics_matmul, quickstart_logits, 1024, 2048, 128);
BENCHMARK_CAPTURE(numerics_matmul, square_512, 512, 512, 512);
BENCHMARK_CAPTURE(numerics_matmul, square_1024, 1024, 1024, 1024);

}  // namespace
}  // namespace takt
