// Times the compilation of a step of a Llama-3-405B-sized model (126 layers) on 16,384 ranks, one core.
// Run: build/cpu/tests/takt_benchmarks --benchmark_filter=compile
#include <benchmark/benchmark.h>

#include "tests/gpt_step.h"

namespace takt {
namespace {

GptStep job_of_405b() {
  GptStep job;
  job.model = {
      .layers = 126, .embed = 16384, .heads = 128, .kv_heads = 8, .mlp = 53248, .vocab = 128256, .seq = 8192};
  job.step = {.global_batch = 2048,
              .micro_batch = 1,
              .precision = Precision::kBF16,
              .layout = {.shard = Shard::kOptimizer}};
  return job;
}

Mesh mesh_of(int data, int tensor) {
  return {{{"data", data, 1}, {"tensor", tensor}}};
}

void compile_405b(benchmark::State& state) {
  const GptStep job = job_of_405b();
  for (auto _ : state) benchmark::DoNotOptimize(compile_step(job, mesh_of(2048, 8), 1).arena.num_bytes());
}
BENCHMARK(compile_405b)->Unit(benchmark::kMillisecond);

// Another layout to choose from, of a job that has been compiled for one.
void compile_neighbour_of_405b(benchmark::State& state) {
  const GptStep job = job_of_405b();
  const LanguageTask task = job.task();
  StepCompiler compiler(task, job.step);
  compiler.candidate(mesh_of(2048, 8), 1);
  for (auto _ : state) benchmark::DoNotOptimize(compiler.candidate(mesh_of(1024, 16), 1).arena.num_bytes());
}
BENCHMARK(compile_neighbour_of_405b)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace takt
