// What every op must satisfy (op_contract.h) of the CPU's kernels, and what does not depend on a device: a new op adds
// samples, no test.
#include "tests/op_contract.h"

#include <set>

#include "core/ops/op_cost.h"

namespace takt {
namespace {

using namespace op_contract;

const Device kCpu{&OpDef::cpu,
                  [](const OpDef& op, KernelNode& node, const std::vector<Buffer*>& inputs,
                     const std::vector<Buffer*>& outputs) { run_kernel(op, node, inputs, outputs); }};

class OpContract : public testing::TestWithParam<Case> {};
class OpGradient : public testing::TestWithParam<Case> {};
class OpGradientInBF16 : public testing::TestWithParam<Case> {};

TEST_P(OpContract, EveryPlacementOnAnyNumberOfRanksEqualsTheReference) {
  expect_every_placement(kCpu, GetParam());
}

TEST_P(OpGradient, MatchesFiniteDifferences) {
  const auto& [op, sample, dtype] = GetParam();
  const Differentiated d = with_gradients(GetParam());
  const Graph& graph = d.graph;
  const std::vector<ValueId>&wanted = d.wanted, &gradients = d.gradients;
  ASSERT_FALSE(wanted.empty());
  const Arrays inputs = random_inputs(graph, *sample);
  const auto loss_at = [&](const Arrays& at) {
    return interpret(graph, at)[static_cast<std::size_t>(d.loss.index)].data[0];
  };
  const std::vector<Array> values = interpret(graph, inputs);
  for (std::size_t w = 0; w < wanted.size(); ++w) {
    const std::string input = graph.value(wanted[w]).name;
    const std::vector<double>& analytic = values[static_cast<std::size_t>(gradients[w].index)].data;
    for (std::size_t i = 0; i < analytic.size(); i += 1 + analytic.size() / 24) {
      constexpr double kStep = 1e-5;
      Arrays moved = inputs;
      moved[input].data[i] += kStep;
      const double up = loss_at(moved);
      moved[input].data[i] -= 2 * kStep;
      const double down = loss_at(moved);
      EXPECT_NEAR(analytic[i], (up - down) / (2 * kStep), 1e-6 * std::max(1.0, std::abs(analytic[i])))
          << op->name << " (" << sample->name << "): d loss / d " << input << "[" << i << "]";
    }
  }
}

TEST_P(OpGradientInBF16, IsTheDoubleGradientWithinItsBound) {
  expect_double_gradient(kCpu, GetParam());
}

TEST_P(OpContract, CostIsPositiveAndScalesWithTheData) {
  const Graph graph = build(GetParam());
  const Cost cost = cost_of(*GetParam().op, graph.args_of(graph.nodes().back()));
  EXPECT_GE(cost.flops, 0.0);
  EXPECT_GT(cost.bytes_written, 0.0);
}

INSTANTIATE_TEST_SUITE_P(AllOps, OpContract, testing::ValuesIn(all_cases(&OpDef::cpu)), name_of_case);
INSTANTIATE_TEST_SUITE_P(DifferentiableOps, OpGradient,
                         testing::ValuesIn(differentiable_cases(&OpDef::cpu, DType::kF32)), name_of_case);
INSTANTIATE_TEST_SUITE_P(DifferentiableOps, OpGradientInBF16,
                         testing::ValuesIn(differentiable_cases(&OpDef::cpu, DType::kBF16)), name_of_case);

TEST(OpRegistry, NamesEveryOpOnce) {
  std::set<std::string> names;
  for (const OpDef* op : op_registry())
    EXPECT_TRUE(names.insert(op->name).second) << op->name << " is listed twice";
}

TEST(OpRegistry, EveryOpThatComputesHasAReferenceAKernelAndSamples) {
  for (const OpDef* op : op_registry()) {
    EXPECT_NE(op->infer, nullptr) << op->name;
    EXPECT_NE(op->cpu.prepare, nullptr) << op->name;
    if (op->needs_group) continue;
    EXPECT_NE(op->reference, nullptr) << op->name;
    EXPECT_FALSE(op->samples.empty()) << op->name;
  }
}

}  // namespace
}  // namespace takt
