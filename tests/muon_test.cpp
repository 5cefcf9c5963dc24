// Muon: what is a matrix, what makes it orthogonal, and whole steps against plain loops.
#include "optimizers/muon.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "core/base/rng.h"
#include "core/exec/cpu_executor.h"
#include "core/exec/reference.h"
#include "core/ops/op_cost.h"
#include "core/passes/parallelize.h"
#include "core/train/regression_task.h"
#include "optimizers/newton_schulz.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

const Mesh kOneRank = {{{"data", 1}, {"tensor", 1}}};

// ---- What is a matrix ----

std::string text_of(const AxisNames& axes) {
  std::string text;
  for (const Axis& axis : axes) text += (text.empty() ? "" : " ") + axis.str();
  return text;
}

// Of the parameters of a task, without the number of the layer: "matrices: rows | columns".
std::map<std::string, std::string> matrices_of(const Task& task) {
  Graph graph;
  task.build(graph, 2);
  const Users readers(graph);
  std::map<std::string, std::string> found;
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    if (graph.values()[v].role != Role::kParameter) continue;
    const auto matrix = hidden_matrix(graph, readers, {static_cast<int>(v)});
    if (!matrix) continue;
    std::string name = graph.values()[v].name;
    name = name.substr(name.find(".0.") == std::string::npos ? name.size() : name.find(".0.") + 3);
    if (!name.empty())
      found[name] =
          text_of(matrix->stacked) + ": " + text_of(matrix->rows) + " | " + text_of(matrix->columns);
  }
  return found;
}

GptConfig small_gpt(const std::string& family) {
  return {.family = family, .layers = 2, .embed = 16, .heads = 2, .mlp = 32, .vocab = 32, .seq = 8};
}

TEST(HiddenMatrix, IsWhatALayerMultipliesBy) {
  using Matrices = std::map<std::string, std::string>;
  EXPECT_EQ(matrices_of(LanguageTask(small_gpt("llama"))),
            (Matrices{{"self_attn.q_proj.weight", ": heads head_dim | embed"},
                      {"self_attn.k_proj.weight", ": kv_heads head_dim | embed"},
                      {"self_attn.v_proj.weight", ": kv_heads head_dim | embed"},
                      {"self_attn.o_proj.weight", ": embed | heads head_dim"},
                      {"mlp.gate_proj.weight", ": mlp | embed"},
                      {"mlp.up_proj.weight", ": mlp | embed"},
                      {"mlp.down_proj.weight", ": embed | mlp"}}));
  EXPECT_EQ(matrices_of(LanguageTask(small_gpt("gpt2"))),
            (Matrices{{"attn.c_attn.weight", "qkv: embed | heads head_dim"},
                      {"attn.c_proj.weight", ": heads head_dim | embed"},
                      {"mlp.c_fc.weight", ": embed | mlp"},
                      {"mlp.c_proj.weight", ": mlp | embed"}}));
  EXPECT_EQ(matrices_of(RegressionTask({.inputs = 6, .outputs = 7, .layers = 2, .embed = 16, .mlp = 30},
                                       {.input_shape = {6}, .output_shape = {7}})),
            (Matrices{{"up.weight", ": mlp | embed"}, {"down.weight", ": embed | mlp"}}));
}

// ---- Plain loops, written from the paper ----

struct Matrix {
  std::size_t rows, columns;
  std::vector<double> data = std::vector<double>(rows * columns);
  double& at(std::size_t r, std::size_t c) { return data[r * columns + c]; }
  double at(std::size_t r, std::size_t c) const { return data[r * columns + c]; }
};

Matrix transposed(const Matrix& x) {
  Matrix y{x.columns, x.rows};
  for (std::size_t r = 0; r < x.rows; ++r)
    for (std::size_t c = 0; c < x.columns; ++c) y.at(c, r) = x.at(r, c);
  return y;
}

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix y{a.rows, b.columns};
  for (std::size_t r = 0; r < a.rows; ++r)
    for (std::size_t c = 0; c < b.columns; ++c)
      for (std::size_t k = 0; k < a.columns; ++k) y.at(r, c) += a.at(r, k) * b.at(k, c);
  return y;
}

Matrix sum(double a, const Matrix& x, double b, const Matrix& y) {
  Matrix z{x.rows, x.columns};
  for (std::size_t i = 0; i < z.data.size(); ++i) z.data[i] = a * x.data[i] + b * y.data[i];
  return z;
}

Matrix newton_schulz(const Matrix& gradient) {
  double square = 0;
  for (const double x : gradient.data) square += x * x;
  Matrix x = gradient.rows > gradient.columns ? transposed(gradient) : gradient;
  for (double& element : x.data) element /= std::sqrt(square) + 1e-7;
  for (int step = 0; step < 5; ++step) {
    const Matrix a = product(x, transposed(x)), b = sum(-4.7750, a, 2.0315, product(a, a));
    x = sum(3.4445, x, 1, product(b, x));
  }
  return gradient.rows > gradient.columns ? transposed(x) : x;
}

Matrix random_matrix(std::size_t rows, std::size_t columns, const std::string& name) {
  Matrix x{rows, columns};
  const RandomStream random(3, name);
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = static_cast<double>(random.normal(i));
  return x;
}

// ---- Steps of the optimizer ----

struct Parameter {
  std::string name;
  Dims dims;
  MatrixAxes axes;
};

// Matrices wider and taller than square, two of one shape, and three side by side.
const std::vector<Parameter> kParameters = {
    {"wide", {{"embed", 3}, {"mlp", 5}}, {{}, {"embed"}, {"mlp"}}},
    {"twin", {{"embed", 3}, {"mlp", 5}}, {{}, {"embed"}, {"mlp"}}},
    {"tall", {{"heads", 2}, {"head_dim", 3}, {"embed", 4}}, {{}, {"heads", "head_dim"}, {"embed"}}},
    {"three",
     {{"embed", 4}, {"qkv", 3}, {"heads", 2}, {"head_dim", 4}},
     {{"qkv"}, {"embed"}, {"heads", "head_dim"}}}};

Graph update_graph(const OptimizerConfig& config) {
  Graph graph;
  const ValueId hyper = graph.input("hyper", {{{"hyper", 3}}, DType::kF32}),
                factor = graph.input("factor", {});
  std::vector<UpdateInputs> updates;
  for (const Parameter& p : kParameters)
    updates.push_back({.parameter = graph.parameter(p.name, {p.dims, DType::kF32}, {}),
                       .gradient = graph.input("grad." + p.name, {p.dims, DType::kF32}),
                       .hyper = hyper,
                       .factor = factor,
                       .matrix = p.axes});
  append_updates(graph, config, updates);
  verify(graph, "the optimizer");
  return graph;
}

// The matrices of a parameter, as rows and columns: [3 parts][8 columns] for "three", whose parts lie between its axes.
std::vector<Matrix> parts_of(const Parameter& p, const std::vector<double>& data) {
  const bool apart = !p.axes.stacked.empty();
  const auto parts = static_cast<std::size_t>(apart ? p.dims[1].extent : 1);
  const auto rows = static_cast<std::size_t>(p.name == "tall" ? 6 : p.dims[0].extent);
  const std::size_t columns = data.size() / rows / parts;
  std::vector<Matrix> matrices;
  for (std::size_t part = 0; part < parts; ++part) {
    Matrix& matrix = matrices.emplace_back(Matrix{rows, columns});
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) matrix.at(r, c) = data[(r * parts + part) * columns + c];
  }
  return matrices;
}

std::vector<double> gradient_of(const Parameter& p, int step) {
  const Matrix all = random_matrix(1, static_cast<std::size_t>(num_elements(p.dims)), concat(p.name, step));
  return all.data;
}

// Jordan et al. 2024 with the factor and the decay of Liu et al. 2025.
void step_by_hand(Matrix& weight, Matrix& momentum, const Matrix& gradient, const OptimizerConfig& config) {
  momentum = sum(config.muon_momentum, momentum, 1, gradient);
  const Matrix direction = newton_schulz(sum(1, gradient, config.muon_momentum, momentum));
  const double scale = 0.2 * std::sqrt(static_cast<double>(std::max(weight.rows, weight.columns)));
  weight = sum(1 - config.lr * config.weight_decay, weight, -config.lr * scale, direction);
}

constexpr int kSteps = 4;
constexpr double kFactor = 0.5;  // what clipping would make of the gradients

// The parts of every parameter after all steps.
std::map<std::string, std::vector<Matrix>> steps_by_hand(const OptimizerConfig& config) {
  std::map<std::string, std::vector<Matrix>> weights;
  for (const Parameter& p : kParameters) {
    weights[p.name] = parts_of(p, gradient_of(p, -1));
    std::vector<Matrix> momenta;
    for (const Matrix& weight : weights[p.name]) momenta.push_back({weight.rows, weight.columns});
    for (int step = 0; step < kSteps; ++step) {
      std::vector<double> gradient = gradient_of(p, step);
      for (double& x : gradient) x *= kFactor;
      const std::vector<Matrix> parts = parts_of(p, gradient);
      for (std::size_t i = 0; i < parts.size(); ++i)
        step_by_hand(weights[p.name][i], momenta[i], parts[i], config);
    }
  }
  return weights;
}

void expect_weights(const std::map<std::string, std::vector<Matrix>>& wanted, const Parameter& p,
                    const std::vector<double>& found, double tolerance) {
  const std::vector<Matrix> parts = parts_of(p, found);
  for (std::size_t i = 0; i < parts.size(); ++i)
    for (std::size_t e = 0; e < parts[i].data.size(); ++e)
      EXPECT_NEAR(parts[i].data[e], wanted.at(p.name)[i].data[e], tolerance)
          << p.name << ", matrix " << i << ", element " << e;
}

const OptimizerConfig kConfig = {
    .kind = "muon", .lr = 0.1, .muon_momentum = 0.9, .weight_decay = 0.1, .schedule = {}};

TEST(Muon, StepsInDoubleAreThoseOfPlainLoops) {
  const Graph graph = update_graph(kConfig);
  Arrays outside;
  for (const Value& value : graph.values())
    if (value.role != Role::kIntermediate)
      outside[value.name] = {value.desc.dims, std::vector<double>(value.desc.num_elements())};
  for (const Parameter& p : kParameters) outside[p.name].data = gradient_of(p, -1);
  outside["hyper"].data = {kConfig.lr, 1, 1};
  outside["factor"].data = {kFactor};
  for (int step = 0; step < kSteps; ++step) {
    for (const Parameter& p : kParameters) outside["grad." + p.name].data = gradient_of(p, step);
    const std::vector<Array> values = interpret(graph, outside);
    for (std::size_t v = 0; v < values.size(); ++v)
      if (is_persistent(graph.values()[v].role)) outside[graph.values()[v].name] = values[v];
  }
  const auto wanted = steps_by_hand(kConfig);
  for (const Parameter& p : kParameters) expect_weights(wanted, p, outside[p.name].data, 1e-10);
}

TEST(Muon, StepsOfTheExecutorAreThoseOfPlainLoops) {
  StepPlan plan{.mesh = kOneRank};
  add_program(plan, "update", parallelize(update_graph(kConfig), kOneRank, model_rules(), plan.table));
  finish(plan);
  CpuExecutor executor(plan);
  const auto set = [&](const std::string& name, const std::vector<double>& data) {
    const std::span<float> to = host_span<float>(executor, name);
    ASSERT_EQ(to.size(), data.size());
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(data[i]);
  };
  for (const Parameter& p : kParameters) set(p.name, gradient_of(p, -1));
  for (int step = 0; step < kSteps; ++step) {
    set("hyper", {kConfig.lr, 1, 1});
    set("factor", {kFactor});
    for (const Parameter& p : kParameters) set("grad." + p.name, gradient_of(p, step));
    executor.run(Action{.program = 0});
  }
  const auto wanted = steps_by_hand(kConfig);
  for (const Parameter& p : kParameters) {
    const std::span<const float> found = host_span<float>(executor, p.name);
    expect_weights(wanted, p, {found.begin(), found.end()}, 1e-4);
  }
}

// The iteration's polynomial takes singular values into this band; o o^T has their squares on its diagonal only where
// they are all one, so the sum of them is looked at: the square of the Frobenius norm.
TEST(NewtonSchulz, MakesSingularValuesAboutOne) {
  for (const auto& [rows, columns] : {std::pair<std::size_t, std::size_t>(8, 24), {24, 8}}) {
    Graph graph;
    const ValueId x = graph.input("x", {{{"matrix", 1},
                                         {"rows", static_cast<std::int64_t>(rows)},
                                         {"columns", static_cast<std::int64_t>(columns)}}});
    const ValueId o = orthogonalized(graph, normalize_matrices(graph, x, 1, "normalized"), "o");
    const Matrix random = random_matrix(rows, columns, "x");
    const std::vector<Array> values = interpret(graph, {{"x", {graph.value(x).desc.dims, random.data}}});
    const Matrix found{rows, columns, values[static_cast<std::size_t>(o.index)].data};
    const Matrix square =
        rows < columns ? product(found, transposed(found)) : product(transposed(found), found);
    double trace = 0;
    for (std::size_t i = 0; i < square.rows; ++i) {
      EXPECT_GT(square.at(i, i), 0.6 * 0.6);
      EXPECT_LT(square.at(i, i), 1.25 * 1.25);
      trace += square.at(i, i);
    }
    EXPECT_NEAR(trace / static_cast<double>(square.rows), 0.9, 0.25);
  }
}

// ---- Matrices dealt to ranks ----

// FLOPs of the products of matrices in a rank's update.
double orthogonalizing_flops(const StepPlan& plan) {
  double flops = 0;
  const Graph& update = plan.programs[plan.index_of(kUpdate)].graph;
  for (const Node& node : update.nodes())
    if (node.op->name == "matmul") flops += cost_of(*node.op, update.args_of(node)).flops;
  return flops;
}

GptStep muon_job(Shard shard) {
  GptStep job;
  job.model = small_gpt("llama");
  job.model.layers = 8;
  job.model.heads = job.model.kv_heads = 4;
  job.step.global_batch = 8;
  job.step.layout.shard = shard;
  job.step.optimizer = kConfig;
  return job;
}

TEST(Muon, DealsWholeMatricesToTheRanksThatShareTheState) {
  const double alone = orthogonalizing_flops(compile_step(muon_job(Shard::kNone), kOneRank, 1));
  for (const auto& [data, tensor] : {std::pair(2, 1), {4, 1}, {8, 1}, {1, 2}, {1, 4}}) {
    const Mesh mesh{{{"data", data, 1}, {"tensor", tensor}}};
    EXPECT_NEAR(orthogonalizing_flops(compile_step(muon_job(Shard::kOptimizer), mesh, 1)) * data * tensor,
                alone, 1e-6 * alone)
        << "data=" << data << " tensor=" << tensor;
  }
}

// Where both mesh axes cut the same axis of a parameter, dealing along both would move more than it is priced to be worth:
// those matrices are dealt along data only.
TEST(Muon, DealsAlongDataAtLeastWhereBothMeshAxesCut) {
  const double alone = orthogonalizing_flops(compile_step(muon_job(Shard::kNone), kOneRank, 1));
  for (const auto& [data, tensor] : {std::pair(2, 2), {4, 2}}) {
    const Mesh mesh{{{"data", data, 1}, {"tensor", tensor}}};
    const double flops = orthogonalizing_flops(compile_step(muon_job(Shard::kOptimizer), mesh, 1));
    EXPECT_LE(flops * data, 1.0001 * alone) << "data=" << data << " tensor=" << tensor;
  }
}

// Without, ranks along data do the same, as with every optimizer; those along tensor share.
TEST(Muon, RepeatsTheWorkAlongDataWhereTheStateIsNotShared) {
  const double alone = orthogonalizing_flops(compile_step(muon_job(Shard::kNone), kOneRank, 1));
  const Mesh mesh{{{"data", 2, 1}, {"tensor", 2}}};
  EXPECT_NEAR(orthogonalizing_flops(compile_step(muon_job(Shard::kNone), mesh, 1)) * 2, alone, 1e-6 * alone);
}

}  // namespace
}  // namespace takt
