// Whole models against numbers recorded from an independent PyTorch implementation: loss, logits, all gradients.
//
// tests/golden/*.json is written by scripts/record_golden.py, where the formulas of weights, tokens and
// targets stand. The reference interpreter is held to the file; the CPU executor is held to every element of
// the interpreter's results, on one rank and on meshes that cut the batch, the heads, the MLP and an uneven vocabulary.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "collectives/local.h"
#include "core/exec/cpu_executor.h"
#include "core/exec/mesh_groups.h"
#include "core/exec/reference.h"
#include "core/models/gpt.h"
#include "core/ops/builders.h"
#include "core/passes/autodiff.h"
#include "core/passes/parallelize.h"
#include "core/passes/shard_ranges.h"
#include "core/state/files.h"

namespace takt {
namespace {

using Json = nlohmann::json;

constexpr double kReferenceTolerance = 1e-9;  // of the value; the file has ten digits
constexpr double kExecutorTolerance = 2e-5;   // of the tensor's largest element, fp32

// A model with its loss and gradients, and what the file says of them.
struct Golden {
  Json recorded;
  Graph graph;
  ValueId loss, logits;
  std::vector<ValueId> parameters, gradients;  // in the order of the parameters' names
  Arrays inputs;                               // tokens, targets and all parameters
};

GptConfig config_of(const std::string& family, const Json& sizes) {
  GptConfig config;
  config.family = family;
  config.layers = sizes["layers"];
  config.embed = sizes["embed"];
  config.heads = sizes["heads"];
  config.kv_heads = sizes["kv_heads"];
  config.mlp = sizes["mlp"];
  config.vocab = sizes["vocab"];
  config.seq = sizes["seq"];
  config.tied = sizes["tied"];
  config.norm_eps = sizes["norm_eps"];
  config.rope_theta = sizes.value("rope_theta", config.rope_theta);
  return complete_gpt(config);
}

std::vector<ValueId> parameters_by_name(const Graph& graph) {
  std::vector<ValueId> parameters;
  for (std::size_t v = 0; v < graph.values().size(); ++v)
    if (graph.values()[v].role == Role::kParameter) parameters.push_back({static_cast<int>(v)});
  std::sort(parameters.begin(), parameters.end(),
            [&](ValueId a, ValueId b) { return graph.value(a).name < graph.value(b).name; });
  return parameters;
}

// Element i of the k-th parameter: float32(0.08 sin(0.7 i + 1.3 k)), plus 1 before rounding in norms.
Array weights_of(const Value& parameter, std::size_t k) {
  const double centre = parameter.parameter->init == ParameterInfo::Init::kOnes ? 1.0 : 0.0;
  Array array{parameter.desc.dims, {}};
  for (std::int64_t i = 0; i < parameter.desc.num_elements(); ++i) {
    const double angle = 0.7 * static_cast<double>(i) + 1.3 * static_cast<double>(k);
    array.data.push_back(static_cast<double>(static_cast<float>(0.08 * std::sin(angle) + centre)));
  }
  return array;
}

template <class Formula>
Array ids_of(const TensorDesc& desc, std::int64_t vocab, const Formula& formula) {
  Array array{desc.dims, {}};
  for (std::int64_t b = 0; b < desc.extent("batch"); ++b)
    for (std::int64_t s = 0; s < desc.extent("seq"); ++s)
      array.data.push_back(static_cast<double>(formula(b, s) % vocab));
  return array;
}

Golden load(const std::string& family) {
  Golden golden;
  golden.recorded = Json::parse(
      read_text_file(std::string(TAKT_SOURCE_DIR) + "/tests/golden/" + family + ".json", 1 << 20));
  const GptConfig config = config_of(family, golden.recorded["sizes"]);
  const std::int64_t batch = golden.recorded["sizes"]["batch"];
  Graph& graph = golden.graph;
  const TensorDesc ids{{{"batch", batch}, {"seq", config.seq}}, DType::kI32};
  const ValueId tokens = graph.input("tokens", ids), targets = graph.input("targets", ids);
  golden.logits = build_gpt(graph, config, tokens).logits;
  const ValueId losses = cross_entropy(graph, golden.logits, targets, "loss");
  const ValueId sum = reduce(graph, losses, {"batch", "seq"}, ReduceOp::kSum, "loss.sum");
  golden.loss = scale(graph, sum, 1.0 / static_cast<double>(batch * config.seq), "loss.mean");
  golden.parameters = parameters_by_name(graph);
  golden.gradients = differentiate(graph, golden.loss, golden.parameters);
  graph.mark_output(golden.loss);
  graph.mark_output(golden.logits);
  for (const ValueId gradient : golden.gradients) graph.mark_output(gradient);
  verify(graph, "autodiff");

  using Int = std::int64_t;
  golden.inputs["tokens"] = ids_of(ids, config.vocab, [](Int b, Int s) { return 7 * b + 3 * s + b * s; });
  golden.inputs["targets"] = ids_of(ids, config.vocab, [](Int b, Int s) { return 5 * b + 2 * s + 1; });
  for (std::size_t k = 0; k < golden.parameters.size(); ++k) {
    const Value& parameter = graph.value(golden.parameters[k]);
    golden.inputs[parameter.name] = weights_of(parameter, k);
  }
  return golden;
}

const Array& at(const std::vector<Array>& values, ValueId id) {
  return values[static_cast<std::size_t>(id.index)];
}

// `scale`: the size of the tensor's elements. Sums of theirs that cancel keep the rounding of the terms.
void expect_recorded(double found, double recorded, double scale, const std::string& what) {
  EXPECT_NEAR(found, recorded, kReferenceTolerance * std::abs(recorded) + 1e-12 * scale) << what;
}

void expect_gradient_recorded(const Value& parameter, const Array& gradient, const Json& recorded) {
  EXPECT_EQ(parameter.name, recorded["name"]);
  std::vector<std::int64_t> shape = parameter.parameter->export_shape;
  if (shape.empty())
    for (const Dim& dim : parameter.desc.dims) shape.push_back(dim.extent);
  EXPECT_EQ(shape, recorded["shape"].get<std::vector<std::int64_t>>()) << parameter.name;
  double sum = 0, square = 0;
  for (const double x : gradient.data) {
    sum += x;
    square += x * x;
  }
  const double norm = std::sqrt(square);
  expect_recorded(norm, recorded["grad_norm"], norm, "norm of the gradient of " + parameter.name);
  expect_recorded(sum, recorded["grad_sum"], norm, "sum of the gradient of " + parameter.name);
  for (const Json& sample : recorded["grad_samples"]) {
    const auto index = sample["index"].get<std::size_t>();
    expect_recorded(gradient.data.at(index), sample["value"], norm,
                    "gradient of " + parameter.name + "[" + std::to_string(index) + "]");
  }
}

// The global element that each local one of a value is; -1 for padding.
std::vector<std::int64_t> global_elements(const Value& value, const Mesh& mesh, std::span<const int> where) {
  std::vector<std::int64_t> elements = {0};
  for (std::size_t d = 0; d < value.desc.dims.size(); ++d) {
    const AxisRange range = range_of(value, d, mesh, where);
    std::vector<std::int64_t> longer;
    for (const std::int64_t element : elements)
      for (std::int64_t i = 0; i < value.desc.dims[d].extent; ++i)
        longer.push_back(element < 0 || i >= range.num_valid
                             ? -1
                             : element * value.global_dims[d].extent + range.offset + i);
    elements = std::move(longer);
  }
  return elements;
}

// Writes this rank's part of all inputs and parameters.
void load_inputs(const Graph& local, const Mesh& mesh, const Arrays& inputs, CpuExecutor& executor) {
  for (const Value& value : local.values()) {
    if (value.role == Role::kIntermediate) continue;
    const std::vector<double>& from = inputs.at(value.name).data;
    const std::vector<std::int64_t> elements = global_elements(value, mesh, executor.coordinates());
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (elements[i] < 0) continue;
      const double x = from[static_cast<std::size_t>(elements[i])];
      if (value.role == Role::kInput)
        host_span<std::int32_t>(executor, value.name)[i] = static_cast<std::int32_t>(x);
      else
        host_span<float>(executor, value.name)[i] = static_cast<float>(x);
    }
  }
}

// The largest difference of this rank's part from the whole, as a fraction of the whole's largest element.
double worst_error(const Value& value, const Mesh& mesh, CpuExecutor& executor, std::span<const float> found,
                   const std::vector<double>& wanted) {
  const std::vector<std::int64_t> elements = global_elements(value, mesh, executor.coordinates());
  double largest = 0, worst = 0;
  for (const double x : wanted) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < elements.size(); ++i) {
    if (elements[i] < 0) continue;
    const double error =
        std::abs(static_cast<double>(found[i]) - wanted[static_cast<std::size_t>(elements[i])]);
    if (!(error <= worst)) worst = error;  // also where it is not a number
  }
  return worst / largest;
}

void expect_executor_agrees(const std::string& family, const Mesh& mesh) {
  const Golden golden = load(family);
  const std::vector<Array> values = interpret(golden.graph, golden.inputs);
  StepPlan plan{.mesh = mesh};
  add_program(plan, "golden", parallelize(golden.graph.pruned(), mesh, model_rules(), plan.table));
  finish(plan);
  const Graph& local = plan.programs[0].graph;
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    CpuExecutor executor(plan, world.rank(), MeshGroups(plan, world));
    load_inputs(local, mesh, golden.inputs, executor);
    executor.run(Action{.program = 0});
    ASSERT_EQ(local.outputs().size(), golden.graph.outputs().size());
    for (std::size_t o = 0; o < local.outputs().size(); ++o) {
      const ValueId global = golden.graph.outputs()[o];
      EXPECT_LT(worst_error(local.value(local.outputs()[o]), mesh, executor, executor.output(0, o),
                            at(values, global).data),
                kExecutorTolerance)
          << golden.graph.value(global).name << " on rank " << world.rank() << " of " << to_string(mesh);
    }
  });
}

class GoldenModel : public testing::TestWithParam<const char*> {};

TEST_P(GoldenModel, ReferenceGivesTheRecordedLossAndLogits) {
  const Golden golden = load(GetParam());
  const std::vector<Array> values = interpret(golden.graph, golden.inputs);
  expect_recorded(at(values, golden.loss).data[0], golden.recorded["loss"], 1.0, "loss");
  const Array& logits = at(values, golden.logits);
  const auto seq = static_cast<std::size_t>(logits.dims[1].extent),
             vocab = static_cast<std::size_t>(logits.dims[2].extent);
  ASSERT_FALSE(golden.recorded["logits"].empty());
  for (const Json& place : golden.recorded["logits"]) {
    const std::size_t row = place["batch"].get<std::size_t>() * seq + place["position"].get<std::size_t>();
    ASSERT_EQ(place["values"].size(), vocab);
    for (std::size_t v = 0; v < vocab; ++v)
      expect_recorded(logits.data[row * vocab + v], place["values"][v], 1.0,
                      "logit " + std::to_string(v) + " of row " + std::to_string(row));
  }
}

TEST_P(GoldenModel, ReferenceGivesTheRecordedGradientOfEveryParameter) {
  const Golden golden = load(GetParam());
  const std::vector<Array> values = interpret(golden.graph, golden.inputs);
  const Json& recorded = golden.recorded["parameters"];  // sorted by name, as `parameters` is
  ASSERT_EQ(golden.parameters.size(), recorded.size());
  for (std::size_t k = 0; k < recorded.size(); ++k)
    expect_gradient_recorded(golden.graph.value(golden.parameters[k]), at(values, golden.gradients[k]),
                             recorded[k]);
}

TEST_P(GoldenModel, ExecutorAgreesOnOneRank) {
  expect_executor_agrees(GetParam(), {{{"data", 1}, {"tensor", 1}}});
}

// 37 tokens over two ranks: the vocabulary is padded.
TEST_P(GoldenModel, ExecutorAgreesWithTheModelSplitOverTwoRanks) {
  expect_executor_agrees(GetParam(), {{{"data", 1}, {"tensor", 2}}});
}

TEST_P(GoldenModel, ExecutorAgreesWithTheBatchSplitOverThreeRanks) {
  expect_executor_agrees(GetParam(), {{{"data", 3}, {"tensor", 1}}});
}

TEST_P(GoldenModel, ExecutorAgreesWithBothSplitOverSixRanks) {
  expect_executor_agrees(GetParam(), {{{"data", 3}, {"tensor", 2}}});
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenModel, testing::Values("gpt2", "llama"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace takt
