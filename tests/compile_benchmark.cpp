// Times the compilation of a step of a Llama-3-405B-sized model (126 layers) on 16,384 ranks, one core.
// Run: build/cpu/tests/takt_benchmarks --benchmark_filter=compile
#include <benchmark/benchmark.h>

#include "core/models/registry.h"
#include "launch/compile_step.h"

namespace takt {
namespace {

Job job_of_405b() {
  Job job;
  job.model = {.layers = 126,
               .embed = 16384,
               .heads = 128,
               .kv_heads = 8,
               .mlp = 53248,
               .vocab = 128256,
               .seq = 8192,
               .init = {}};
  job.model = find_model(job.model.kind).complete(job.model);
  job.train = {.global_batch_tokens = 2048, .global_batch_in_samples = true, .micro_batch = 1};
  job.mesh.shard = "optimizer";
  job.train.precision = "bf16";
  return job;
}

// `data` x `tensor` ranks. A neighbouring layout costs as much as the first: nothing is kept between two compilations.
void compile_405b(benchmark::State& state) {
  const Job job = job_of_405b();
  const Mesh mesh{
      {{"data", static_cast<int>(state.range(0)), 1}, {"tensor", static_cast<int>(state.range(1))}}};
  for (auto _ : state) benchmark::DoNotOptimize(compile_step(job, mesh, 1).arena.num_bytes());
}
BENCHMARK(compile_405b)->Args({2048, 8})->Args({1024, 16})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace takt
