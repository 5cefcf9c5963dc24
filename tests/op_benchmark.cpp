// Times single ops on one rank, at the sizes of a small GPT: batch 8, seq 256, embed 256, 4 heads, vocab 2048.
// Run: build/cpu/tests/takt_benchmarks        counters: FLOP/s by the op's own cost, bytes/s by its traffic
#include <benchmark/benchmark.h>

#include <functional>

#include "core/exec/cpu_executor.h"
#include "core/ops/builders.h"
#include "core/ops/op_cost.h"

namespace takt {
namespace {

constexpr std::int64_t kBatch = 8, kSeq = 256, kEmbed = 256, kHeads = 4, kMlp = 704, kVocab = 2048;

TensorDesc tokens_by(const Axis& axis, std::int64_t extent, DType dtype = DType::kF32) {
  return {{{"batch", kBatch}, {"seq", kSeq}, {axis, extent}}, dtype};
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

void bench_matmul(benchmark::State& state, DType dtype) {
  run_graph(state, [dtype](Graph& g) {
    const ValueId x = g.input("x", tokens_by("embed", kEmbed, dtype));
    matmul(g, x, g.input("w", {{{"mlp", kMlp}, {"embed", kEmbed}}, dtype}), {"batch", "seq", "mlp"}, "y");
  });
}

void bench_attention(benchmark::State& state, DType dtype, bool with_grad) {
  run_graph(state, [=](Graph& g) {
    const Dims heads = {{"batch", kBatch}, {"seq", kSeq}, {"heads", kHeads}, {"head_dim", kEmbed / kHeads}};
    Dims kv_heads = heads;
    kv_heads[2].axis = "kv_heads";
    const ValueId q = g.input("q", {heads, dtype}), k = g.input("k", {kv_heads, dtype}),
                  v = g.input("v", {kv_heads, dtype});
    const std::vector<ValueId> y = g.append(attention_op(), {q, k, v}, {}, "y");
    if (with_grad)
      g.append(attention_grad_op(), {g.input("dy", {heads, dtype}), q, k, v, y[0], y[1]}, {}, "d");
  });
}

void bench_rms_norm(benchmark::State& state, bool with_grad) {
  run_graph(state, [=](Graph& g) {
    const ValueId x = g.input("x", tokens_by("embed", kEmbed)),
                  weight = g.input("weight", {{{"embed", kEmbed}}});
    const std::vector<ValueId> y = g.append(norm_op(), {x, weight}, {{"eps", 1e-5}}, "y");
    if (with_grad)
      g.append(norm_grad_op(), {g.input("dy", tokens_by("embed", kEmbed)), x, weight, y[1], y[2]},
               {{"centered", false}}, "d");
  });
}

void bench_gated_silu(benchmark::State& state, DType dtype) {
  run_graph(state, [dtype](Graph& g) {
    const ValueId gate = g.input("gate", tokens_by("mlp", kMlp, dtype));
    gated_silu(g, gate, g.input("up", tokens_by("mlp", kMlp, dtype)), "y");
  });
}

void bench_add(benchmark::State& state, DType dtype) {
  run_graph(state, [dtype](Graph& g) {
    const ValueId x = g.input("x", tokens_by("embed", kEmbed, dtype));
    add(g, {x, g.input("y", tokens_by("embed", kEmbed, dtype))}, "sum");
  });
}

const TensorDesc kTokens{{{"batch", kBatch}, {"seq", kSeq}}, DType::kI32};

void bench_embedding_grad(benchmark::State& state, DType dtype) {
  run_graph(state, [dtype](Graph& g) {
    const ValueId dy = g.input("dy", tokens_by("embed", kEmbed, dtype));
    g.append_one(embedding_grad_op(), {dy, g.input("tokens", kTokens)},
                 {{"table", Dims{{"vocab", kVocab}, {"embed", kEmbed}}}}, "dtable");
  });
}

void bench_cross_entropy(benchmark::State& state) {
  run_graph(state, [](Graph& g) {
    const ValueId logits = g.input("logits", tokens_by("vocab", kVocab));
    cross_entropy(g, logits, g.input("targets", kTokens), "loss");
  });
}

BENCHMARK_CAPTURE(bench_add, f32, DType::kF32)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_add, bf16, DType::kBF16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_attention, f32, DType::kF32, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_attention, bf16, DType::kBF16, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_attention, f32_and_grad, DType::kF32, true)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_attention, bf16_and_grad, DType::kBF16, true)->Unit(benchmark::kMillisecond);
BENCHMARK(bench_cross_entropy)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_embedding_grad, f32, DType::kF32)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_embedding_grad, bf16, DType::kBF16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_gated_silu, f32, DType::kF32)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_gated_silu, bf16, DType::kBF16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_matmul, f32, DType::kF32)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_matmul, bf16, DType::kBF16)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_rms_norm, f32, false)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bench_rms_norm, f32_and_grad, true)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace takt

BENCHMARK_MAIN();
