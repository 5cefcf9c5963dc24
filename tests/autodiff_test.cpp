// Differentiation: what flows together, what does not flow, and what cannot be asked for.
#include "core/passes/autodiff.h"
#include "core/models/gpt.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "core/exec/reference.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

using Numbers = std::vector<double>;

const TensorDesc kVector{{{"embed", 3}}, DType::kF32};
const ParameterInfo kInfo;

ValueId dot(Graph& graph, ValueId a, ValueId b, const std::string& name) {
  return matmul(graph, a, b, {}, name);
}
ValueId total(Graph& graph, ValueId x, const std::string& name) {
  return reduce(graph, x, {"embed"}, ReduceOp::kSum, name);
}

// The gradient of `loss` for each of `wanted`, with the vectors in `at`.
std::vector<Numbers> gradients(Graph& graph, ValueId loss, const std::vector<ValueId>& wanted,
                               const std::map<std::string, Numbers>& at) {
  const std::vector<ValueId> ids = differentiate(graph, loss, wanted);
  verify(graph, "autodiff");
  Arrays outside;
  for (const auto& [name, numbers] : at)
    outside[name] = {graph.value(graph.find(name).value()).desc.dims, numbers};
  const std::vector<Array> values = interpret(graph, outside);
  std::vector<Numbers> results;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(graph.value(ids[i]).desc, graph.value(wanted[i]).desc);
    results.push_back(values[static_cast<std::size_t>(ids[i].index)].data);
  }
  return results;
}

std::string error_text(Fault fault, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), fault) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

TEST(Autodiff, AValueUsedTwiceByOneNodeGetsBothGradients) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId loss = dot(graph, x, x, "square");
  EXPECT_EQ(gradients(graph, loss, {x}, {{"x", {1, -2, 3}}}), (std::vector<Numbers>{{2, -4, 6}}));
}

// loss = 2 sum(x) + x . w + sum(x): a chain, a product and a direct use.
TEST(Autodiff, AValueUsedByManyNodesGetsTheSum) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo), w = graph.parameter("w", kVector, kInfo);
  const ValueId doubled = total(graph, scale(graph, x, 2.0, "doubled"), "first");
  const ValueId loss = add(graph, {doubled, dot(graph, x, w, "second"), total(graph, x, "third")}, "loss");
  EXPECT_EQ(gradients(graph, loss, {x, w}, {{"x", {1, -2, 3}}, {"w", {10, 20, 30}}}),
            (std::vector<Numbers>{{13, 23, 33}, {1, -2, 3}}));
}

// What is used twice below the top: h = 3 x, loss = h . h, so d loss / d x = 18 x.
TEST(Autodiff, SumsAreTakenBeforeTheyFlowOn) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId h = scale(graph, x, 3.0, "h");
  const ValueId loss = dot(graph, h, h, "loss");
  EXPECT_EQ(gradients(graph, loss, {x}, {{"x", {1, -2, 3}}}), (std::vector<Numbers>{{18, -36, 54}}));
}

TEST(Autodiff, GradientsOfIntermediateValuesCanBeAskedFor) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId h = scale(graph, x, 3.0, "h");
  const ValueId loss = dot(graph, h, h, "loss");
  EXPECT_EQ(gradients(graph, loss, {h, loss}, {{"x", {1, -2, 3}}}),
            (std::vector<Numbers>{{6, -12, 18}, {1}}));
}

TEST(Autodiff, StopsAtWhatIsWanted) {
  Graph graph;
  const ValueId x = graph.input("x", kVector);
  const ValueId h = sum_squares(graph, x, "h");  // cannot be differentiated, and need not be
  const ValueId loss = scale(graph, h, 3.0, "loss");
  EXPECT_EQ(gradients(graph, loss, {h}, {{"x", {1, -2, 3}}}), (std::vector<Numbers>{{3}}));
}

// Attention has a second output, which only its own gradient reads.
TEST(Autodiff, OutputsThatNobodyUsesAddNothing) {
  Graph graph;
  const auto vector = [&](const std::string& name, const std::string& heads) {
    return graph.parameter(name, {{{"batch", 1}, {"seq", 1}, {heads, 1}, {"head_dim", 2}}, DType::kF32},
                           kInfo);
  };
  const ValueId q = vector("q", "heads"), k = vector("k", "kv_heads"), v = vector("v", "kv_heads");
  const ValueId y = attention(graph, q, k, v, "attention");
  const ValueId loss = reduce(graph, y, {"batch", "seq", "heads", "head_dim"}, ReduceOp::kSum, "loss");
  // One token looks at itself alone: y = v.
  const std::vector<Numbers> found =
      gradients(graph, loss, {q, k, v}, {{"q", {1, 2}}, {"k", {3, 4}}, {"v", {5, 6}}});
  for (std::size_t i = 0; i < 3; ++i)
    for (const double x : found[i]) EXPECT_NEAR(x, i == 2 ? 1.0 : 0.0, 1e-12);
}

TEST(Autodiff, NamesAnUnstackOfWhichOnePartIsUnused) {
  Graph graph;
  const ValueId x = graph.parameter("x", {{{"part", 3}, {"embed", 2}}, DType::kF32}, kInfo);
  const ValueId loss = total(graph, unstack(graph, x, "part", "parts")[1], "loss");
  const ValueId wanted[] = {x};
  EXPECT_NE(error_text(Fault::kConfig, [&] { differentiate(graph, loss, wanted); }).find("unstack 'parts'"),
            std::string::npos);
}

TEST(Autodiff, BranchesThatDoNotReachTheLossAddNothing) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId loss = total(graph, x, "loss");
  dot(graph, x, x, "metric");                         // after the loss
  scale(graph, scale(graph, x, 7.0, "a"), 7.0, "b");  // a chain nobody reads
  EXPECT_EQ(gradients(graph, loss, {x}, {{"x", {1, -2, 3}}}), (std::vector<Numbers>{{1, 1, 1}}));
}

TEST(Autodiff, NamesAParameterThatDoesNotReachTheLoss) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId lonely = graph.parameter("layers.7.lonely", kVector, kInfo);
  scale(graph, lonely, 2.0, "unused");
  const ValueId loss = total(graph, x, "loss");
  const ValueId wanted[] = {x, lonely};
  EXPECT_NE(error_text(Fault::kConfig, [&] { differentiate(graph, loss, wanted); }).find("'layers.7.lonely'"),
            std::string::npos);
}

TEST(Autodiff, NamesAnOpThatCannotBeDifferentiated) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId loss = sum_squares(graph, x, "the.norm");
  const ValueId wanted[] = {x};
  const std::string text = error_text(Fault::kConfig, [&] { differentiate(graph, loss, wanted); });
  EXPECT_NE(text.find("sum_squares"), std::string::npos) << text;
  EXPECT_NE(text.find("'the.norm'"), std::string::npos) << text;
}

// Only what depends on a wanted value has to be differentiable.
TEST(Autodiff, PassesByOpsThatDependOnNothingWanted) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo), y = graph.input("y", kVector);
  const ValueId constant = sum_squares(graph, y, "constant");
  const ValueId loss = add(graph, {total(graph, x, "sum"), constant}, "loss");
  EXPECT_EQ(gradients(graph, loss, {x}, {{"x", {1, -2, 3}}, {"y", {1, 1, 1}}}),
            (std::vector<Numbers>{{1, 1, 1}}));
}

TEST(Autodiff, RefusesALossThatIsNoScalar) {
  Graph graph;
  const ValueId x = graph.parameter("x", kVector, kInfo);
  const ValueId loss = scale(graph, x, 2.0, "vector");
  const ValueId wanted[] = {x};
  EXPECT_NE(error_text(Fault::kBug, [&] { differentiate(graph, loss, wanted); }).find("'vector'"),
            std::string::npos);
}

GptConfig small_model(const std::string& family, bool tied) {
  GptConfig config;
  config.family = family;
  config.layers = 1;
  config.embed = 8;
  config.heads = 2;
  config.vocab = 11;
  config.seq = 5;
  config.tied = tied;
  return complete_gpt(config);
}

// The gradients of all parameters of a small model, by name; the output projection holds the table's numbers.
std::map<std::string, Numbers> model_gradients(const std::string& family, bool tied,
                                               const std::string& table) {
  const GptConfig config = small_model(family, tied);
  Graph graph;
  const TensorDesc ids{{{"batch", 2}, {"seq", config.seq}}, DType::kI32};
  const ValueId tokens = graph.input("tokens", ids), targets = graph.input("targets", ids);
  const ValueId logits = build_gpt(graph, config, tokens).logits;
  const ValueId loss = reduce(graph, cross_entropy(graph, logits, targets, "loss"), {"batch", "seq"},
                              ReduceOp::kSum, "loss.sum");
  std::map<std::string, Numbers> at;
  std::vector<ValueId> parameters;
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    const Value& value = graph.values()[v];
    if (value.role == Role::kIntermediate) continue;
    const RandomStream random(3, value.name == "lm_head.weight" ? table : value.name);
    Numbers& numbers = at[value.name];
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(value.desc.num_elements()); ++i)
      numbers.push_back(value.role == Role::kInput ? static_cast<double>(random.below(i, 11))
                                                   : 0.5 * static_cast<double>(random.normal(i)));
    if (value.role == Role::kParameter) parameters.push_back({static_cast<int>(v)});
  }
  const std::vector<Numbers> results = gradients(graph, loss, parameters, at);
  std::map<std::string, Numbers> by_name;
  for (std::size_t p = 0; p < parameters.size(); ++p) by_name[graph.value(parameters[p]).name] = results[p];
  return by_name;
}

TEST(Autodiff, TiedEmbeddingsGetTheSumOfBothUses) {
  const std::pair<std::string, std::string> tables[] = {{"gpt2", "transformer.wte.weight"},
                                                        {"llama", "model.embed_tokens.weight"}};
  for (const auto& [family, table] : tables) {
    const auto tied = model_gradients(family, true, table), apart = model_gradients(family, false, table);
    EXPECT_EQ(tied.size() + 1, apart.size()) << family;
    for (const auto& [name, gradient] : tied)
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        const double wanted = apart.at(name)[i] + (name == table ? apart.at("lm_head.weight")[i] : 0.0);
        EXPECT_NEAR(gradient[i], wanted, 1e-12) << name << "[" << i << "]";
      }
  }
}

}  // namespace
}  // namespace takt
