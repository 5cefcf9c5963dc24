// What looks alike and what does not.
#include "core/graph/look_alikes.h"

#include <gtest/gtest.h>

#include "core/ops/builders.h"
#include "core/passes/parallelize.h"
#include "tests/random_graph.h"

namespace takt {
namespace {

TensorDesc rows(std::int64_t batch) {
  return {{{"batch", batch}, {"embed", 8}}, DType::kF32};
}
NodeId producer(const Graph& graph, ValueId id) {
  return graph.value(id).producer;
}

int look_of(const Graph& graph, ValueId id) {
  return LookAlikes(graph).look_of(id);
}

TEST(LookAlikes, NamesMakeNoDifference) {
  Graph graph;
  const ValueId a = graph.input("a", rows(4)), b = graph.input("b", rows(4));
  const ValueId x = scale(graph, a, 2.0, "x"), y = scale(graph, b, 2.0, "y");
  const LookAlikes alike(graph);
  EXPECT_EQ(alike.look_of(a), alike.look_of(b));
  EXPECT_EQ(alike.look_of(producer(graph, x)), alike.look_of(producer(graph, y)));
  EXPECT_EQ(alike.first_nodes(), std::vector{producer(graph, x)});
}

TEST(LookAlikes, RolesShapesAndTypesMakeADifference) {
  Graph graph;
  const ValueId input = graph.input("input", rows(4));
  for (const ValueId other :
       {graph.parameter("parameter", rows(4), {}), graph.input("taller", rows(5)),
        graph.input("numbers", {rows(4).dims, DType::kI32}), scale(graph, input, 1.0, "computed")})
    EXPECT_NE(look_of(graph, input), look_of(graph, other)) << graph.value(other).name;
}

TEST(LookAlikes, AttributesAndInputsMakeADifference) {
  Graph graph;
  const ValueId a = graph.input("a", rows(4)), b = graph.input("b", rows(5));
  const NodeId twice = producer(graph, scale(graph, a, 2.0, "twice"));
  const NodeId thrice = producer(graph, scale(graph, a, 3.0, "thrice"));
  const NodeId taller = producer(graph, scale(graph, b, 2.0, "taller"));
  const LookAlikes alike(graph);
  EXPECT_NE(alike.look_of(twice), alike.look_of(thrice));
  EXPECT_NE(alike.look_of(twice), alike.look_of(taller));
  EXPECT_EQ(alike.first_nodes().size(), 3u);
}

TEST(LookAlikes, PlacementsMakeADifference) {
  Graph graph;
  const ValueId a = graph.input("a", rows(4)), b = graph.input("b", rows(4));
  graph.value(a).placement = {AxisPlacement::partial()};
  graph.value(b).placement = {AxisPlacement::replicated()};
  EXPECT_NE(look_of(graph, a), look_of(graph, b));
  graph.value(b).placement = {AxisPlacement::partial(ReduceOp::kMax)};
  EXPECT_NE(look_of(graph, a), look_of(graph, b));
}

// Numbers are dense, every node has the look of the first of its look, and what looks alike is alike.
TEST(LookAlikes, OfRandomGraphsAreAlike) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Mesh mesh{{{"data", 2, 1}, {"tensor", 2}}};
    const Graph graph = parallelize(random_graph::random_step(seed).micro_batch, mesh, model_rules(), {});
    const LookAlikes alike(graph);
    for (std::size_t i = 0; i < alike.first_nodes().size(); ++i)
      EXPECT_EQ(alike.look_of(alike.first_nodes()[i]), static_cast<int>(i));
    for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      const auto look = static_cast<std::size_t>(alike.look_of(NodeId{static_cast<int>(n)}));
      const Node& first = graph.node(alike.first_nodes().at(look));
      EXPECT_EQ(node.op, first.op);
      EXPECT_EQ(node.attrs, first.attrs);
      EXPECT_EQ(node.mesh_axes, first.mesh_axes);
      EXPECT_EQ(graph.args_of(node).inputs, graph.args_of(first).inputs);
      EXPECT_EQ(graph.args_of(node).outputs, graph.args_of(first).outputs);
    }
  }
}

}  // namespace
}  // namespace takt
