// Optimizers: known sequences of steps, refusal of gradients that are not finite, and what decays.
#include "optimizers/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "core/exec/cpu_executor.h"
#include "core/exec/reference.h"
#include "core/ops/builders.h"
#include "core/passes/parallelize.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

using Numbers = std::vector<double>;

const Mesh kOneRank = {{{"data", 1}, {"tensor", 1}}};
const Numbers kStart = {1.0, -2.0};
const std::vector<Numbers> kGradients = {{0.5, -0.3}, {-0.25, 0.1}, {0.125, 0.7}};

OptimizerConfig config_of(const std::string& kind) {
  return {.kind = kind,
          .lr = 0.1,
          .betas = {0.9, 0.99},
          .eps = 1e-8,
          .lion_betas = {0.9, 0.99},
          .muon_momentum = 0.95,
          .momentum = 0.9,
          .weight_decay = 0.1,
          .schedule = {}};
}

// One parameter "p" of two elements, a matrix of one row, with its update.
Graph update_graph(const OptimizerConfig& config, bool decays = true) {
  const TensorDesc desc{{{"embed", 1}, {"mlp", 2}}, DType::kF32};
  Graph graph;
  append_updates(graph, config,
                 {{.parameter = graph.parameter("p", desc, {.decays = decays}),
                   .gradient = graph.input("gradient", desc),
                   .hyper = graph.input("hyper", {{{"hyper", 3}}, DType::kF32}),
                   .factor = graph.input("factor", {}),
                   .matrix = MatrixAxes{.stacked = {}, .rows = {"embed"}, .columns = {"mlp"}}}});
  return graph;
}

Array array_of(const Graph& graph, const std::string& name, Numbers data) {
  return {graph.value(graph.find(name).value()).desc.dims, std::move(data)};
}

Numbers hyper_numbers(const OptimizerConfig& config, std::int64_t step) {
  const StepHyper hyper = hyper_at(config, step, 100);
  return {static_cast<double>(hyper.lr), static_cast<double>(hyper.correction1),
          static_cast<double>(hyper.correction2)};
}

// The parameter after each of kGradients, in double.
std::vector<Numbers> reference_steps(const OptimizerConfig& config, bool decays, double factor) {
  const Graph graph = update_graph(config, decays);
  Arrays outside;
  for (const Value& value : graph.values())
    if (is_persistent(value.role)) outside[value.name] = array_of(graph, value.name, {0, 0});
  outside["p"].data = kStart;
  outside["factor"] = array_of(graph, "factor", {factor});
  std::vector<Numbers> steps;
  for (const Numbers& gradient : kGradients) {
    outside["gradient"] = array_of(graph, "gradient", gradient);
    outside["hyper"] =
        array_of(graph, "hyper", hyper_numbers(config, static_cast<std::int64_t>(steps.size()) + 1));
    const std::vector<Array> values = interpret(graph, outside);
    for (std::size_t v = 0; v < values.size(); ++v)
      if (is_persistent(graph.values()[v].role)) outside[graph.values()[v].name] = values[v];
    steps.push_back(outside["p"].data);
  }
  return steps;
}

// The update as the CPU executor runs it on one rank.
class CpuUpdate {
 public:
  explicit CpuUpdate(const OptimizerConfig& config, bool decays = true)
      : config_(config), plan_(plan_of(config, decays)), executor_(plan_) {
    start_from(kStart);
  }
  void start_from(const Numbers& parameter) { set(host_span<float>(executor_, "p"), parameter); }
  void step(const Numbers& gradient, double factor) {
    set(host_span<float>(executor_, "gradient"), gradient);
    set(host_span<float>(executor_, "hyper"), hyper_numbers(config_, ++step_));
    set(host_span<float>(executor_, "factor"), {factor});
    executor_.run(Action{.program = 0});
  }
  Numbers parameter() { return read("p"); }
  // Parameter and state.
  std::vector<Numbers> everything() {
    std::vector<Numbers> all = {parameter()};
    for (const std::string& slot : find_optimizer(config_.kind).slots)
      all.push_back(read(state_name(slot, "p")));
    return all;
  }

 private:
  static StepPlan plan_of(const OptimizerConfig& config, bool decays) {
    StepPlan plan{.mesh = kOneRank};
    add_program(plan, "update",
                parallelize(update_graph(config, decays), kOneRank, model_rules(), plan.table));
    finish(plan);
    return plan;
  }
  static void set(std::span<float> to, const Numbers& from) {
    ASSERT_EQ(to.size(), from.size());
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(from[i]);
  }
  Numbers read(const std::string& name) {
    const std::span<const float> data = host_span<float>(executor_, name);
    return {data.begin(), data.end()};
  }

  OptimizerConfig config_;
  StepPlan plan_;
  CpuExecutor executor_;
  std::int64_t step_ = 0;
};

void expect_sequence(const OptimizerConfig& config, bool decays, double factor,
                     const std::vector<Numbers>& wanted) {
  const std::vector<Numbers> reference = reference_steps(config, decays, factor);
  CpuUpdate cpu(config, decays);
  for (std::size_t s = 0; s < wanted.size(); ++s) {
    cpu.step(kGradients[s], factor);
    for (std::size_t i = 0; i < 2; ++i) {
      // lr and corrections reach the update as fp32.
      EXPECT_NEAR(reference[s][i], wanted[s][i], 1e-7) << config.kind << ", step " << s + 1;
      EXPECT_NEAR(cpu.parameter()[i], wanted[s][i], 1e-6) << config.kind << ", step " << s + 1;
    }
  }
}

// Recorded from torch.optim.AdamW (2.15, float64) with the same numbers. The first step can be done by hand:
// both averages are corrected to g and g^2, so p = 1 - 0.1 (sign(g) + 0.1 p) = 0.89.
TEST(AdamW, ThreeStepsWithDecayAreTheKnownOnes) {
  expect_sequence(
      config_of("adamw"), true, 1.0,
      {{0.890000002, -1.8800000033}, {0.8544300597, -1.8211054840}, {0.8117323250, -1.8482545965}});
}

// Without decay Adam's step does not depend on the scale of the gradient, but for eps.
TEST(AdamW, FollowsTheDirectionAndNotTheScaleOfTheGradient) {
  const std::vector<Numbers> small = reference_steps(config_of("adamw"), false, 1e-2),
                             large = reference_steps(config_of("adamw"), false, 1e2);
  for (std::size_t s = 0; s < small.size(); ++s)
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(small[s][i], large[s][i], 1e-6);
}

// By hand: u = 0.9 u + g, p = p - 0.1 (u + 0.1 p).
TEST(Sgd, ThreeStepsWithMomentumAndDecayAreTheKnownOnes) {
  expect_sequence(config_of("sgd"), true, 1.0, {{0.94, -1.95}, {0.9106, -1.9135}, {0.870994, -1.949065}});
}

TEST(Sgd, ThreeStepsWithoutDecayAreTheKnownOnes) {
  expect_sequence(config_of("sgd"), false, 1.0, {{0.95, -1.97}, {0.93, -1.953}, {0.8995, -2.0077}});
}

// Twice the factor is twice the gradient.
TEST(Sgd, MultipliesGradientsByTheClippingFactor) {
  expect_sequence(config_of("sgd"), false, 0.5, {{0.975, -1.985}, {0.965, -1.9765}, {0.94975, -2.00385}});
}

// By hand: the sign of 0.9 m + 0.1 g, then m = 0.99 m + 0.01 g.
TEST(Lion, ThreeStepsWithDecayAreTheKnownOnes) {
  expect_sequence(config_of("lion"), true, 1.0, {{0.89, -1.88}, {0.9811, -1.9612}, {0.871289, -2.041588}});
}

TEST(Lion, FollowsTheSignAndNotTheScaleOfTheGradient) {
  EXPECT_EQ(reference_steps(config_of("lion"), true, 1e-3), reference_steps(config_of("lion"), true, 1e3));
}

// A row of a table that no token has read, and padding.
TEST(Lion, DoesNotMoveWhatHasNoGradient) {
  CpuUpdate update(config_of("lion"), false);
  update.step({0, 0.5}, 1.0);
  EXPECT_EQ(update.parameter()[0], kStart[0]);
  EXPECT_NE(update.parameter()[1], kStart[1]);
}

double norm_of(const Numbers& x) {
  double square = 0;
  for (const double element : x) square += element * element;
  return std::sqrt(square);
}

// Algorithm 2 of You et al. 2019, line by line, on kGradients.
std::vector<Numbers> lamb_of_the_paper(const OptimizerConfig& config, double decay) {
  Numbers x = kStart, m(2), v(2);
  std::vector<Numbers> steps;
  for (std::size_t t = 1; t <= kGradients.size(); ++t) {
    Numbers update(2);
    for (std::size_t i = 0; i < 2; ++i) {
      const double g = kGradients[t - 1][i], beta1 = config.betas[0], beta2 = config.betas[1];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const double mean = m[i] / (1 - std::pow(beta1, t)), square = v[i] / (1 - std::pow(beta2, t));
      update[i] = mean / (std::sqrt(square) + config.eps) + decay * x[i];
    }
    const double step = config.lr * norm_of(x) / norm_of(update);
    for (std::size_t i = 0; i < 2; ++i) x[i] -= step * update[i];
    steps.push_back(x);
  }
  return steps;
}

TEST(Lamb, ThreeStepsAreThoseOfThePaper) {
  const OptimizerConfig config = config_of("lamb");
  expect_sequence(config, true, 1.0, lamb_of_the_paper(config, 0.1));
}

// Every step moves a tensor by lr times its norm.
TEST(Lamb, StepsAreAFractionOfTheNorm) {
  OptimizerConfig config = config_of("lamb");
  config.weight_decay = 0;
  Numbers before = kStart;
  for (const Numbers& after : reference_steps(config, true, 1e-3)) {
    EXPECT_NEAR(norm_of({after[0] - before[0], after[1] - before[1]}), config.lr * norm_of(before), 1e-6);
    before = after;
  }
}

TEST(Lamb, IsAdamWWhereNothingDecays) {
  EXPECT_EQ(reference_steps(config_of("lamb"), false, 1.0), reference_steps(config_of("adamw"), false, 1.0));
}

TEST(Lamb, TrustIsOneWhereANormIsZero) {
  CpuUpdate still(config_of("lamb"));
  still.step({0, 0}, 1.0);  // the direction is decay alone: trust is 1 / decay
  EXPECT_NEAR(still.parameter()[0], kStart[0] * 0.9, 1e-6);
  OptimizerConfig config = config_of("lamb");
  config.weight_decay = 0;
  CpuUpdate nowhere(config);
  nowhere.step({0, 0}, 1.0);
  EXPECT_EQ(nowhere.parameter(), kStart);
  CpuUpdate from_zero(config);
  from_zero.start_from({0, 0});
  from_zero.step({0.5, -0.5}, 1.0);
  EXPECT_NEAR(from_zero.parameter()[0], -config.lr, 1e-6) << "Adam's first step";
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(EveryOptimizer, LeavesParametersAndStateWhereTheFactorIsNotFinite) {
  for (const OptimizerDef& optimizer : optimizer_registry()) {
    CpuUpdate update(config_of(optimizer.name));
    update.step(kGradients[0], 1.0);
    const std::vector<Numbers> before = update.everything();
    EXPECT_NE(before[0], kStart) << optimizer.name;
    for (const double factor : {kInfinity, -kInfinity, kNan}) {
      update.step(kGradients[1], factor);
      update.step({kNan, kInfinity}, factor);
      EXPECT_EQ(update.everything(), before) << optimizer.name << ", factor " << factor;
    }
  }
}

// So a norm that is not finite reaches the optimizers as a factor that is not, with and without clipping.
TEST(EveryOptimizer, SeesAFactorThatIsNotFiniteWhereTheNormIsNot) {
  for (const double max_norm : {0.0, 1.0})
    for (const double square : {kInfinity, kNan}) {
      const Attrs attrs = {{"max_norm", max_norm}};
      const Kernel clip = clip_factor_op().cpu.prepare({{"clip", attrs, {{}}, {{}, {}}}});
      auto in = static_cast<float>(square);
      float norm = 0, factor = 0;
      void* inputs[] = {&in};
      void* outputs[] = {&norm, &factor};
      clip({inputs, outputs});
      EXPECT_FALSE(std::isfinite(factor)) << "square " << square << ", max_norm " << max_norm;
    }
}

bool is_norm_or_bias(const std::string& parameter) {
  return parameter.ends_with(".bias") || parameter.find("norm.") != std::string::npos ||
         parameter.find("ln_") != std::string::npos;
}

// The step compiled from a job, for every optimizer and family.
TEST(EveryOptimizer, DecaysWeightsButNoNormsAndBiases) {
  for (const OptimizerDef& optimizer : optimizer_registry())
    for (const std::string family : {"gpt2", "llama"}) {
      GptStep job;
      job.model = {.family = family, .layers = 2, .embed = 16, .heads = 2, .vocab = 32, .seq = 8};
      job.step.global_batch = 2;
      job.step.optimizer = config_of(optimizer.name);
      const StepPlan plan = compile_step(job, kOneRank, 1);
      const Graph& update = plan.programs[plan.index_of(kUpdate)].graph;
      std::set<std::string> decayed, others;
      for (const Node& node : update.nodes()) {
        if (!node.attrs.has("decay")) continue;
        const std::string& parameter = update.value(node.inputs[0]).name;
        const double decay = node.attrs.number("decay");
        EXPECT_EQ(decay, is_norm_or_bias(parameter) ? 0.0 : 0.1) << parameter;
        (decay > 0 ? decayed : others).insert(parameter);
      }
      EXPECT_EQ(decayed.size(), family == "gpt2" ? 11u : 16u) << "tables and the matrices of 2 layers";
      EXPECT_EQ(others.size(), family == "gpt2" ? 18u : 5u) << "norms and biases";
    }
}

TEST(EveryOptimizer, IsFoundByItsNameAndOthersAreRefused) {
  for (const OptimizerDef& optimizer : optimizer_registry())
    EXPECT_EQ(&find_optimizer(optimizer.name), &optimizer);
  try {
    find_optimizer("adam");
    FAIL() << "an unknown optimizer was found";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kConfig);
    EXPECT_NE(std::string(error.what()).find("'adam'; known are adamw, lamb, lion, muon, sgd"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace takt
