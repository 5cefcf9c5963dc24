// Operands are state, so that they stay from run to run; results are temporary, as in a step.
#include "launch/benchmarks.h"

#include <fmt/format.h>

#include "core/base/units.h"
#include "core/ops/builders.h"
#include "core/passes/conversion_nodes.h"
#include "core/passes/parallelize.h"

namespace takt {
namespace {

ValueId operand(Graph& graph, const std::string& name, TensorDesc desc) {
  return graph.persistent(name, std::move(desc), Role::kState);
}

// Programs are named as their benchmarks, so that no two share a value.
std::string name_of(const Benchmark& benchmark) {
  return benchmark.op + " " + benchmark.shape;
}

// Adds a program of one rank.
void add(BenchmarkSet& set, Benchmark benchmark, const Graph& graph) {
  add_program(set.plan, name_of(benchmark), parallelize(graph, set.plan.mesh, {}, set.plan.table));
  set.benchmarks.push_back(std::move(benchmark));
}

BenchmarkSet finished(BenchmarkSet set) {
  finish(set.plan);
  verify(set.plan);
  return set;
}

double attention_pairs(const AttentionSize& s) {
  return static_cast<double>(s.batch * s.heads) * static_cast<double>(s.seq) *
         static_cast<double>(s.seq + 1) / 2;
}

// With the gradients of q, k and v for a given one of y.
Graph attention_graph(const AttentionSize& s, DType dtype, const std::string& name, bool with_backward) {
  Graph graph;
  const TensorDesc q{{{"batch", s.batch}, {"seq", s.seq}, {"heads", s.heads}, {"head_dim", s.head_dim}},
                     dtype};
  TensorDesc kv = q;
  kv.dims[2].axis = "kv_heads";
  const ValueId y = attention(graph, operand(graph, name + ".q", q), operand(graph, name + ".k", kv),
                              operand(graph, name + ".v", kv), name + ".y");
  graph.mark_output(y);
  if (!with_backward) return graph;
  const Node node = graph.node(graph.value(y).producer);  // a copy: the graph grows
  const std::vector<std::optional<ValueId>> output_grads = {operand(graph, name + ".dy", q), std::nullopt};
  for (const std::optional<ValueId>& grad : node.op->grad({graph, node, output_grads}))
    graph.mark_output(*grad);
  return graph;
}

}  // namespace

BenchmarkSet matmul_benchmarks(const std::vector<std::int64_t>& extents, const std::vector<DType>& dtypes,
                               const RankDevice& device) {
  BenchmarkSet set{.plan = {.mesh = {}, .device = device}};
  for (const DType dtype : dtypes)
    for (const std::int64_t n : extents) {
      Benchmark benchmark{
          .op = fmt::format("matmul {}", takt::name_of(dtype)),
          .shape = fmt::format("{0} x {0} x {0}", n),
          .work = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n)};
      const std::string name = name_of(benchmark);
      Graph graph;
      const ValueId a = operand(graph, name + ".a", {{{"rows", n}, {"inner", n}}, dtype});
      const ValueId b = operand(graph, name + ".b", {{{"inner", n}, {"columns", n}}, dtype});
      graph.mark_output(matmul(graph, a, b, {"rows", "columns"}, name + ".y"));
      add(set, std::move(benchmark), graph);
    }
  return finished(std::move(set));
}

BenchmarkSet attention_benchmarks(const AttentionSize& shape, const std::vector<DType>& dtypes,
                                  const RankDevice& device) {
  BenchmarkSet set{.plan = {.mesh = {}, .device = device}};
  for (const DType dtype : dtypes)
    for (const bool with_backward : {false, true}) {
      Benchmark benchmark{
          .op = fmt::format("attention {}{}", takt::name_of(dtype), with_backward ? " with backward" : ""),
          .shape = fmt::format("{} x {} x {} x {}", shape.batch, shape.seq, shape.heads, shape.head_dim),
          .work =
              (with_backward ? 14.0 : 4.0) * static_cast<double>(shape.head_dim) * attention_pairs(shape)};
      const std::string name = name_of(benchmark);
      add(set, std::move(benchmark), attention_graph(shape, dtype, name, with_backward));
    }
  return finished(std::move(set));
}

BenchmarkSet copy_benchmarks(const std::vector<std::uint64_t>& num_bytes, const RankDevice& device) {
  BenchmarkSet set{.plan = {.mesh = {}, .device = device}};
  for (const std::uint64_t n : num_bytes) {
    Benchmark benchmark{
        .op = "copy f32", .shape = format_bytes(n), .work = 2.0 * static_cast<double>(n), .is_bytes = true};
    const std::string name = name_of(benchmark);
    const TensorDesc desc{{{"element", static_cast<std::int64_t>(n / 4)}}};
    Graph graph;
    const ValueId to = graph.persistent(name + ".to", desc, Role::kDerived);
    assign(graph, to, operand(graph, name + ".from", desc), name + ".y");
    add(set, std::move(benchmark), graph);
  }
  return finished(std::move(set));
}

// As in an update: an accumulator that every rank holds a summand of.
BenchmarkSet all_reduce_benchmarks(const std::vector<std::uint64_t>& num_bytes, int num_ranks,
                                   const RankDevice& device) {
  BenchmarkSet set{.plan = {.mesh = {{{"data", num_ranks}}}, .device = device}};
  if (num_ranks == 1) return set;
  for (const std::uint64_t n : num_bytes) {
    const double share = 2.0 * (num_ranks - 1) / num_ranks;
    Benchmark benchmark{.op = "all_reduce f32",
                        .shape = format_bytes(n),
                        .work = share * static_cast<double>(n),
                        .is_bytes = true};
    const std::string name = name_of(benchmark);
    const TensorDesc desc{{{"element", static_cast<std::int64_t>(n / 4)}}};
    const Placement partial = {AxisPlacement::partial()}, whole = {AxisPlacement::replicated()};
    Graph graph;
    const ValueId x = graph.add_outside({.name = name + ".x",
                                         .desc = desc,
                                         .role = Role::kAccumulator,
                                         .global_dims = desc.dims,
                                         .placement = partial});
    ConversionNode reduction = conversion_nodes(partial, whole, desc, set.plan.mesh).front();
    reduction.node.name = name;
    reduction.node.inputs = {x};
    graph.mark_output(
        graph
            .append_placed(
                std::move(reduction.node),
                {{.name = name, .desc = desc, .global_dims = desc.dims, .placement = reduction.after}})
            .front());
    add_program(set.plan, name, std::move(graph));
    set.benchmarks.push_back(std::move(benchmark));
  }
  return finished(std::move(set));
}

}  // namespace takt
