// Times single ops on one rank, at the sizes of a small GPT: batch 8, seq 256, embed 256, 4 heads, vocab
// 2048. Run: build/cpu/tests/takt_benchmarks        counters: FLOP/s by the op's own cost, bytes/s by its
// traffic
#include <benchmark/benchmark.h>

#include <functional>

#include "core/exec/cpu_executor.h"
#include "core/ops/builders.h"
#include "core/ops/op_cost.h"

namespace takt {
namespace {

constexpr std::int64_t kBatch = 8, kSeq = 256, kEmbed = 256, kHeads = 4, kMlp = 704, kVocab = 2048;

TensorDesc f32(Dims dims) {
  return {std::move(dims), DType::kF32};
}
TensorDesc tokens_by(const Axis& axis, std::int64_t extent) {
  return f32({{"batch", kBatch}, {"seq", kSeq}, {axis, extent}});
}

// Runs the graph's nodes over and over; inputs are zeros, which no kernel here minds.
void run_graph(benchmark::State& state, const std::function<void(Graph&)>& build) {
  Graph graph;
  build(graph);
  for (int v = 0; v < static_cast<int>(graph.values().size()); ++v) graph.value({v}).placement = Placement(1);
  StepPlan plan{.mesh = {{{"data", 1}}}};
  add_program(plan, "op", graph);
  finish(plan);
  CpuExecutor executor(plan);
  for (auto _ : state) executor.run(Action{.program = 0});
  Cost cost;
  for (const Node& node : graph.nodes()) {
    const Cost one = cost_of(*node.op, graph.args_of(node));
    cost = {cost.flops + one.flops, cost.bytes_read + one.bytes_read, cost.bytes_written + one.bytes_written};
  }
  using Counter = benchmark::Counter;
  state.counters["FLOP/s"] = Counter(cost.flops, Counter::kIsIterationInvariantRate);
  state.counters["bytes/s"] =
      Counter(cost.bytes_read + cost.bytes_written, Counter::kIsIterationInvariantRate);
}

void bench_matmul(benchmark::State& state) {
  run_graph(state, [](Graph& g) {
    const ValueId x = g.input("x", tokens_by("embed", kEmbed));
    matmul(g, x, g.input("w", f32({{"mlp", kMlp}, {"embed", kEmbed}})), {"batch", "seq", "mlp"}, "y");
  });
}

void bench_attention(benchmark::State& state) {
  run_graph(state, [](Graph& g) {
    const Dims heads = {{"batch", kBatch}, {"seq", kSeq}, {"heads", kHeads}, {"head_dim", kEmbed / kHeads}};
    Dims kv_heads = heads;
    kv_heads[2].axis = "kv_heads";
    const ValueId q = g.input("q", f32(heads)), k = g.input("k", f32(kv_heads));
    attention(g, q, k, g.input("v", f32(kv_heads)), "y");
  });
}

void bench_rms_norm(benchmark::State& state) {
  run_graph(state, [](Graph& g) {
    const ValueId x = g.input("x", tokens_by("embed", kEmbed));
    rms_norm(g, x, g.input("weight", f32({{"embed", kEmbed}})), 1e-5, "y");
  });
}

void bench_gated_silu(benchmark::State& state) {
  run_graph(state, [](Graph& g) {
    const ValueId gate = g.input("gate", tokens_by("mlp", kMlp));
    gated_silu(g, gate, g.input("up", tokens_by("mlp", kMlp)), "y");
  });
}

void bench_cross_entropy(benchmark::State& state) {
  run_graph(state, [](Graph& g) {
    const ValueId logits = g.input("logits", tokens_by("vocab", kVocab));
    cross_entropy(g, logits, g.input("targets", {{{"batch", kBatch}, {"seq", kSeq}}, DType::kI32}), "loss");
  });
}

BENCHMARK(bench_attention)->Unit(benchmark::kMillisecond);
BENCHMARK(bench_cross_entropy)->Unit(benchmark::kMillisecond);
BENCHMARK(bench_gated_silu)->Unit(benchmark::kMillisecond);
BENCHMARK(bench_matmul)->Unit(benchmark::kMillisecond);
BENCHMARK(bench_rms_norm)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace takt

BENCHMARK_MAIN();
