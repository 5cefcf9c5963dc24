// Times the compilation of a step of a Llama-3-405B-sized model (126 layers) on 16,384 ranks, one core: from the job, and
// what a neighbouring layout costs whose global graphs are there already, pass by pass.
// Run: build/cpu/tests/takt_benchmarks --benchmark_filter='compile|layout'
#include <benchmark/benchmark.h>

#include <array>
#include <chrono>
#include <map>

#include "core/models/registry.h"
#include "core/passes/bucket.h"
#include "core/passes/derive.h"
#include "core/passes/parallelize.h"
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

Mesh mesh_of(int data, int tensor) {
  return {{{"data", data, 1}, {"tensor", tensor}}};
}

// `data` x `tensor` ranks. A neighbouring layout costs as much as the first: nothing is kept between two compilations.
void compile_405b(benchmark::State& state) {
  const Job job = job_of_405b();
  const Mesh mesh = mesh_of(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  for (auto _ : state) benchmark::DoNotOptimize(compile_step(job, mesh, 1).arena.num_bytes());
}
BENCHMARK(compile_405b)->Args({2048, 8})->Args({1024, 16})->Unit(benchmark::kMillisecond);

struct GlobalProgram {
  std::string name;
  Graph graph;
  Shard shard = Shard::kNone;
};

// What all layouts with this many samples a micro-batch have in common, in the order in which they are placed.
std::vector<GlobalProgram> global_programs(Job job, int num_samples) {
  std::map<std::string, Graph> seen;  // by pass and program
  compile_step(job, mesh_of(num_samples, 1), 1,
               [&](std::string_view pass, std::string_view program, const Graph& graph) {
                 seen[concat(pass, " ", program)] = graph;
               });
  job.train.micro_batch = num_samples;
  const StepPlan one_rank = compile_step(job, {}, 1);  // its update is global
  const Graph &written = seen["precision micro_batch"], &reading = seen["derive micro_batch"];
  const std::string update(kUpdate), refresh(kRefresh), constants(kConstants);
  return {{std::string(kMicroBatch), reading},
          {std::string(kEvaluate), seen["derive evaluate"]},
          {update, one_rank.programs[one_rank.index_of(kUpdate)].graph, find_shard(job.mesh.shard)},
          {refresh, build_refresh(written, reading), find_shard(job.mesh.shard)},
          {constants, build_constants(written, reading)}};
}

// Adds the processor's time that a pass took to its counter, in milliseconds.
class PassClock {
 public:
  explicit PassClock(benchmark::State& state) : state_(state) {}
  template <class Body>
  auto time(const char* pass, const Body& body) {
    const auto start = std::clock();
    auto result = body();
    state_.counters[pass] += 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    return result;
  }

 private:
  benchmark::State& state_;
};

// The passes that depend on the layout, over graphs that are there.
StepPlan lay_out(const std::vector<GlobalProgram>& programs, const Mesh& mesh, PassClock& clock) {
  StepPlan plan{.mesh = mesh};
  const std::size_t bucket_bytes = default_bucket_bytes(mesh.size_of("data"));
  const auto check = [&](const Graph& graph, std::string_view pass) {
    return clock.time("verify", [&] { return verify(graph, pass), true; });
  };
  for (const GlobalProgram& program : programs) {
    Graph local = clock.time("parallelize", [&] {
      return parallelize(program.graph, mesh, sharding_rules(program.shard), plan.table);
    });
    check(local, "parallelize");
    local = clock.time("bucket", [&] { return bucket_all_reduces(std::move(local), bucket_bytes); });
    check(local, "bucket");
    clock.time("table", [&] { return add_program(plan, program.name, std::move(local)), true; });
  }
  clock.time("finish", [&] { return finish(plan), true; });
  return plan;
}

void layout_405b(benchmark::State& state) {
  const Mesh mesh = mesh_of(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
  const std::vector<GlobalProgram> programs = global_programs(job_of_405b(), mesh.size_of("data"));
  PassClock clock(state);
  for (auto _ : state) benchmark::DoNotOptimize(lay_out(programs, mesh, clock).arena.num_bytes());
  for (auto& [pass, counter] : state.counters) counter.flags = benchmark::Counter::kAvgIterations;
}
BENCHMARK(layout_405b)->Args({2048, 8})->Args({1024, 16})->Unit(benchmark::kMillisecond)->MinTime(2);

}  // namespace
}  // namespace takt
