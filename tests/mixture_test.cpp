// The mixture of experts against loops that were written from its definition and share nothing with the ops.
#include "core/models/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/rng.h"
#include "core/exec/reference.h"
#include "core/ops/builders.h"
#include "core/passes/autodiff.h"

namespace takt {
namespace {

constexpr double kRounding = 1e-12;  // of sums in double

struct Sizes {
  std::int64_t batch, seq, embed;
  MixtureConfig mixture;
};

Sizes draw_sizes(std::uint64_t seed) {
  const RandomStream random(seed, "sizes");
  std::uint64_t next = 0;
  const auto one_of = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random.below(next++, static_cast<std::uint64_t>(high - low + 1)));
  };
  Sizes sizes{.batch = one_of(1, 3), .seq = one_of(1, 9), .embed = one_of(1, 5), .mixture = {}};
  sizes.mixture.experts = one_of(2, 6);
  sizes.mixture.experts_per_token = one_of(2, sizes.mixture.experts);
  sizes.mixture.capacity = one_of(1, sizes.seq);
  sizes.mixture.mlp = one_of(1, 5);
  sizes.mixture.balance = 0.3;
  sizes.mixture.z = 0.2;
  return sizes;
}

// The graph of one layer, with random numbers for all it reads.
struct Layer {
  Graph graph;
  Mixture mixture;
  Arrays outside;

  Layer(const Sizes& sizes, std::uint64_t seed) {
    const ValueId x =
        graph.input("x", {{{"batch", sizes.batch}, {"seq", sizes.seq}, {"embed", sizes.embed}}, DType::kF32});
    mixture = build_mixture(graph, sizes.mixture, x, "");
    for (const Value& value : graph.values()) {
      if (value.role == Role::kIntermediate) continue;
      const RandomStream random(seed, value.name);
      Array& array = outside[value.name];
      array.dims = value.desc.dims;
      for (std::int64_t i = 0; i < value.desc.num_elements(); ++i)
        array.data.push_back(static_cast<double>(random.normal(static_cast<std::uint64_t>(i))));
    }
  }
  const std::vector<double>& at(const std::string& name) const { return outside.at(name).data; }
};

struct Wanted {
  std::vector<double> y, router_loss;
  std::int64_t num_dropped = 0;
};

// softmax(logits)[e]
double probability(const std::vector<double>& logits, std::int64_t e) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return std::exp(logits[static_cast<std::size_t>(e)]) / sum;
}

// out[i] = sum_j matrix[i, j] in[j], of one expert's matrix.
std::vector<double> product(const std::vector<double>& stack, std::int64_t expert, std::int64_t rows,
                            const std::vector<double>& in) {
  const auto columns = static_cast<std::int64_t>(in.size());
  std::vector<double> out(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j)
      out[static_cast<std::size_t>(i)] += stack[static_cast<std::size_t>((expert * rows + i) * columns + j)] *
                                          in[static_cast<std::size_t>(j)];
  return out;
}

std::vector<double> expert_of(const Layer& layer, const Sizes& sizes, std::int64_t e,
                              const std::vector<double>& x) {
  std::vector<double> h = product(layer.at("experts.*.w1.weight"), e, sizes.mixture.mlp, x);
  const std::vector<double> up = product(layer.at("experts.*.w3.weight"), e, sizes.mixture.mlp, x);
  for (std::size_t i = 0; i < h.size(); ++i) h[i] = h[i] / (1 + std::exp(-h[i])) * up[i];
  return product(layer.at("experts.*.w2.weight"), e, sizes.embed, h);
}

std::vector<double> row_of(const std::vector<double>& all, std::int64_t row, std::int64_t width) {
  return {all.begin() + row * width, all.begin() + (row + 1) * width};
}

// One sample, token after token, as section 2.1 of the paper says it, with slots that run out.
void add_sample(const Layer& layer, const Sizes& sizes, std::int64_t sample, Wanted& wanted) {
  const MixtureConfig& c = sizes.mixture;
  std::vector<std::vector<double>> logits;
  std::vector<std::int64_t> picked(static_cast<std::size_t>(c.experts));  // by expert
  for (std::int64_t s = 0; s < sizes.seq; ++s) {
    const std::vector<double> x = row_of(layer.at("x"), sample * sizes.seq + s, sizes.embed);
    logits.push_back(product(layer.at("gate.weight"), 0, c.experts, x));
    std::vector<std::int64_t> order;
    for (std::int64_t e = 0; e < c.experts; ++e) order.push_back(e);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return logits.back()[static_cast<std::size_t>(a)] > logits.back()[static_cast<std::size_t>(b)];
    });
    order.resize(static_cast<std::size_t>(c.experts_per_token));
    double of_all = 0;
    for (const std::int64_t e : order) of_all += probability(logits.back(), e);
    std::vector<double> y(static_cast<std::size_t>(sizes.embed));
    for (const std::int64_t e : order) {
      if (picked[static_cast<std::size_t>(e)]++ >= c.capacity) {
        ++wanted.num_dropped;
        continue;
      }
      const std::vector<double> of_expert = expert_of(layer, sizes, e, x);
      for (std::size_t i = 0; i < y.size(); ++i)
        y[i] += probability(logits.back(), e) / of_all * of_expert[i];
    }
    wanted.y.insert(wanted.y.end(), y.begin(), y.end());
  }
  for (const std::vector<double>& row : logits) {
    double loss = 0, sum = 0;
    for (const double logit : row) sum += std::exp(logit);
    for (std::int64_t e = 0; e < c.experts; ++e)
      loss += c.balance * static_cast<double>(c.experts) *
              static_cast<double>(picked[static_cast<std::size_t>(e)]) / static_cast<double>(sizes.seq) *
              probability(row, e);
    wanted.router_loss.push_back(loss + c.z * std::log(sum) * std::log(sum));
  }
}

Wanted loops(const Layer& layer, const Sizes& sizes) {
  Wanted wanted;
  for (std::int64_t b = 0; b < sizes.batch; ++b) add_sample(layer, sizes, b, wanted);
  return wanted;
}

void expect_near(const std::vector<double>& found, const std::vector<double>& wanted,
                 const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], wanted[i], kRounding * std::max(1.0, std::abs(wanted[i])))
        << what << "[" << i << "]";
}

TEST(Mixture, OfAnySizesIsWhatIndependentLoopsCompute) {
  std::int64_t num_dropped = 0, num_whole = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Sizes sizes = draw_sizes(seed);
    const Layer layer(sizes, seed);
    const std::vector<Array> values = interpret(layer.graph, layer.outside);
    const Wanted wanted = loops(layer, sizes);
    SCOPED_TRACE(concat("seed ", seed));
    expect_near(values[static_cast<std::size_t>(layer.mixture.y.index)].data, wanted.y, "y");
    expect_near(values[static_cast<std::size_t>(layer.mixture.router_loss.index)].data, wanted.router_loss,
                "router_loss");
    num_dropped += wanted.num_dropped;
    num_whole += wanted.num_dropped == 0;
  }
  EXPECT_GT(num_dropped, 100);
  EXPECT_GT(num_whole, 20);
}

// What a sample computes is its own matter: neither the samples beside it nor the tokens behind it have a part in it.
TEST(Mixture, ATokenDependsOnItsSampleUpToItself) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Sizes sizes = draw_sizes(seed);
    sizes.batch = 2;
    sizes.seq = 6;
    sizes.mixture.capacity = 2;
    Layer layer(sizes, seed);
    const auto y_of = [&] {
      return interpret(layer.graph, layer.outside)[static_cast<std::size_t>(layer.mixture.y.index)].data;
    };
    const std::vector<double> before = y_of();
    std::vector<double>& x = layer.outside.at("x").data;
    const auto kept = static_cast<std::size_t>(4 * sizes.embed);  // four tokens of the first sample
    for (std::size_t i = kept; i < x.size(); ++i) x[i] = -x[i] + 1;
    const std::vector<double> after = y_of();
    for (std::size_t i = 0; i < kept; ++i) ASSERT_EQ(after[i], before[i]) << seed;
    EXPECT_NE(after, before) << seed;
  }
}

TEST(Mixture, EqualLogitsGoToTheLowerNumber) {
  Graph graph;
  const ValueId logits = graph.input("logits", {{{"batch", 1}, {"seq", 2}, {"choice", 4}}, DType::kF32});
  const Routes routes = route(graph, logits, 2, 1, "routes");
  const std::vector<Array> values =
      interpret(graph, {{"logits", {graph.value(logits).desc.dims, {1, 1, 1, 1, 0, 2, 2, 2}}}});
  EXPECT_EQ(values[static_cast<std::size_t>(routes.slots.index)].data, (std::vector<double>{0, 1, -2, 2}));
  EXPECT_EQ(values[static_cast<std::size_t>(routes.weights.index)].data, (std::vector<double>(4, 0.5)));
  EXPECT_EQ(values[static_cast<std::size_t>(routes.load.index)].data, (std::vector<double>{0.5, 1, 0.5, 0}));
}

// Of y and the router's loss together, by every weight and input, where no pick is about to change.
TEST(Mixture, GradientsMatchFiniteDifferences) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const Sizes sizes = draw_sizes(seed);
    Layer layer(sizes, seed);
    Graph& graph = layer.graph;
    const ValueId y = reduce(graph, layer.mixture.y, {"batch", "seq", "embed"}, ReduceOp::kSum, "y.sum"),
                  router =
                      reduce(graph, layer.mixture.router_loss, {"batch", "seq"}, ReduceOp::kSum, "r.sum");
    const ValueId objective = add(graph, {y, router}, "objective");
    std::vector<ValueId> wanted;
    for (const auto& [name, array] : layer.outside) wanted.push_back(graph.find(name).value());
    const std::vector<ValueId> gradients = differentiate(graph, objective, wanted);
    const auto at = [&](ValueId id) {
      return interpret(graph, layer.outside)[static_cast<std::size_t>(id.index)].data;
    };
    for (std::size_t w = 0; w < wanted.size(); ++w) {
      const std::vector<double> analytic = at(gradients[w]);
      std::vector<double>& x = layer.outside.at(graph.value(wanted[w]).name).data;
      for (std::size_t i = 0; i < x.size(); i += 1 + x.size() / 5) {
        constexpr double kStep = 1e-6;
        const double middle = x[i];
        x[i] = middle + kStep;
        const double up = at(objective)[0];
        x[i] = middle - kStep;
        const double down = at(objective)[0];
        x[i] = middle;
        ASSERT_NEAR(analytic[i], (up - down) / (2 * kStep), 1e-6 * std::max(1.0, std::abs(analytic[i])))
            << graph.value(wanted[w]).name << "[" << i << "], seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace takt
