// What every op must satisfy, over all ops and optimizer updates and all their samples: a new op adds
// samples, no test.
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <set>

#include "core/base/rng.h"
#include "core/exec/reference.h"
#include "core/ops/builders.h"
#include "core/ops/registry.h"
#include "core/passes/autodiff.h"
#include "optimizers/optimizer.h"

namespace takt {
namespace {

struct Case {
  const OpDef* op;
  const Sample* sample;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add = [&](const OpDef& op) {
    for (const Sample& sample : op.samples) cases.push_back({&op, &sample});
  };
  for (const OpDef* op : op_registry()) add(*op);
  for (const OptimizerDef& optimizer : optimizer_registry()) add(optimizer.op());
  return cases;
}

// The maximum is the one reduction without a gradient; a constant has no input to have one for.
std::vector<Case> differentiable_cases() {
  std::vector<Case> cases;
  for (const Case& test : all_cases())
    if (test.op->grad != nullptr && !test.sample->name.starts_with("maximum")) cases.push_back(test);
  return cases;
}

Graph build(const Sample& sample) {
  Graph graph;
  sample.build(graph);
  return graph;
}

Arrays random_inputs(const Graph& graph, const Sample& sample) {
  Arrays inputs;
  for (const Value& value : graph.values()) {
    if (value.role != Role::kInput) continue;
    const RandomStream random(7, value.name);
    Array& array = inputs[value.name];
    array.dims = value.desc.dims;
    for (std::int64_t i = 0; i < value.desc.num_elements(); ++i) {
      const auto element = static_cast<std::uint64_t>(i);
      array.data.push_back(
          value.desc.dtype == DType::kI32
              ? static_cast<double>(random.below(element, static_cast<std::uint64_t>(sample.index_bound)))
              : static_cast<double>(random.normal(element)));
    }
  }
  return inputs;
}

// Storage of one tensor in its own dtype.
struct Buffer {
  std::vector<float> data;  // i32 lie bitwise in it
  explicit Buffer(const TensorDesc& desc) : data(static_cast<std::size_t>(desc.num_elements()), 0.0f) {}
  void set(const TensorDesc& desc, std::size_t i, double value) {
    if (desc.dtype == DType::kI32)
      reinterpret_cast<std::int32_t*>(data.data())[i] = static_cast<std::int32_t>(value);
    else
      data[i] = static_cast<float>(value);
  }
};

// The elements of `global` that one of `num_ranks` holds when it is sharded along `axis`.
std::vector<double> shard(const Array& global, const Axis& axis, int rank, int num_ranks) {
  std::vector<double> part;
  const auto a = static_cast<std::size_t>(find_axis(global.dims, axis));
  std::int64_t inner = 1;
  for (std::size_t d = a + 1; d < global.dims.size(); ++d) inner *= global.dims[d].extent;
  const std::int64_t extent = global.dims[a].extent, local = extent / num_ranks;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(global.data.size()); ++i)
    if (i / inner % extent / local == rank) part.push_back(global.data[static_cast<std::size_t>(i)]);
  return part;
}

TensorDesc local_desc(const TensorDesc& desc, const AxisPlacement& placement, int num_ranks) {
  TensorDesc local = desc;
  if (placement.is_sharded())
    local.dims[static_cast<std::size_t>(find_axis(local.dims, placement.axis))].extent /= num_ranks;
  return local;
}

// What `rank` holds of an input: its shard, all of it, or a random summand.
std::vector<double> local_input(const Array& global, const AxisPlacement& placement, int rank,
                                int num_ranks) {
  if (placement.is_sharded()) return shard(global, placement.axis, rank, num_ranks);
  if (placement.is_replicated()) return global.data;
  std::vector<double> part(global.data.size());
  const RandomStream random(11, "summands");
  for (std::size_t i = 0; i < part.size(); ++i) {
    double rest = global.data[i];
    for (int r = 0; r + 1 < num_ranks; ++r) {
      const double summand = random.uniform(i * 64 + static_cast<std::size_t>(r)) - 0.5;
      if (r == rank) part[i] = summand;
      rest -= summand;
    }
    if (rank == num_ranks - 1) part[i] = rest;
  }
  return part;
}

class RankRun {
 public:
  // Runs the last node of the graph as one of `num_ranks` would with this signature; `values` are the global
  // ones.
  RankRun(const Graph& graph, const std::vector<Array>& values, const OpPlacement& signature, int rank,
          int num_ranks) {
    const Node& node = graph.nodes().back();
    attrs_ = node.attrs;
    const OpArgs global = graph.args_of(node);
    for (auto& [name, attr] : attrs_.entries())
      if (Dims* dims = std::get_if<Dims>(&attr))
        *dims = local_desc({*dims, DType::kF32}, signature.outputs[0], num_ranks).dims;
    KernelNode view{{node.name, attrs_, {}, {}}};
    std::vector<void*> inputs, outputs;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const Value& value = graph.value(node.inputs[i]);
      view.inputs.push_back(local_desc(value.desc, signature.inputs[i], num_ranks));
      Buffer& buffer = buffers_.emplace_back(view.inputs.back());
      const std::vector<double> data = local_input(values[static_cast<std::size_t>(node.inputs[i].index)],
                                                   signature.inputs[i], rank, num_ranks);
      for (std::size_t e = 0; e < data.size(); ++e) buffer.set(value.desc, e, data[e]);
      inputs.push_back(buffer.data.data());
      add_range(view, value.desc, signature.inputs[i], rank, num_ranks);
    }
    view.outputs = node.op->infer({node.name, attrs_, view.inputs, {}});
    for (std::size_t i = 0; i < view.outputs.size(); ++i) {
      EXPECT_EQ(view.outputs[i], local_desc(global.outputs[i], signature.outputs[i], num_ranks))
          << node.op->name << ": local shapes";
      add_range(view, global.outputs[i], signature.outputs[i], rank, num_ranks);
      void* storage = buffers_.emplace_back(view.outputs[i]).data.data();
      for (const auto& [output, input] : node.op->in_place)
        if (output == static_cast<int>(i)) storage = inputs[static_cast<std::size_t>(input)];
      outputs.push_back(storage);
    }
    view.num_threads = 1 + rank % 2;  // results must not depend on it
    std::vector<float> scratch;
    if (node.op->cpu.scratch_bytes) scratch.resize(node.op->cpu.scratch_bytes(view) / sizeof(float) + 1);
    node.op->cpu.prepare(view)({inputs, outputs, scratch.data()});
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const auto* data = static_cast<const float*>(outputs[i]);
      results_.emplace_back(data, data + view.outputs[i].num_elements());
    }
  }
  const std::vector<float>& output(std::size_t i) const { return results_[i]; }

 private:
  static void add_range(KernelNode& view, const TensorDesc& desc, const AxisPlacement& placement, int rank,
                        int num_ranks) {
    if (!placement.is_sharded()) return;
    const std::int64_t extent = desc.extent(placement.axis), local = extent / num_ranks;
    view.ranges.push_back({placement.axis, rank * local, local, extent});
  }
  Attrs attrs_;
  std::deque<Buffer> buffers_;
  std::vector<std::vector<float>> results_;
};

bool can_split(const OpArgs& args, const OpPlacement& signature, int num_ranks) {
  for (std::size_t i = 0; i < args.inputs.size(); ++i)
    if (signature.inputs[i].is_sharded() && args.inputs[i].extent(signature.inputs[i].axis) % num_ranks != 0)
      return false;
  for (std::size_t i = 0; i < args.outputs.size(); ++i)
    if (signature.outputs[i].is_sharded() &&
        args.outputs[i].extent(signature.outputs[i].axis) % num_ranks != 0)
      return false;
  return true;
}

std::string text_of(const OpPlacement& signature) {
  std::string text;
  for (const AxisPlacement& input : signature.inputs) text += to_string(input) + " ";
  text += "->";
  for (const AxisPlacement& output : signature.outputs) text += " " + to_string(output);
  return text;
}

void PrintTo(const Case& test, std::ostream* out) {
  *out << test.op->name << ": " << test.sample->name;
}

class OpContract : public testing::TestWithParam<Case> {};
class OpGradient : public testing::TestWithParam<Case> {};

TEST_P(OpContract, EveryPlacementOnAnyNumberOfRanksEqualsTheReference) {
  const auto& [op, sample] = GetParam();
  const Graph graph = build(*sample);
  const Arrays inputs = random_inputs(graph, *sample);
  const Node& node = graph.nodes().back();
  ASSERT_EQ(node.op, op) << "the sample's last node must be the op";
  const std::vector<Array> values = interpret(graph, inputs);
  const std::vector<Array> before = interpret_first(graph, inputs, graph.nodes().size() - 1);
  const OpArgs args = graph.args_of(node);
  int checked = 0;
  for (const OpPlacement& signature : op->placements(args))
    for (const int num_ranks : {1, 2, 4}) {
      if (!can_split(args, signature, num_ranks)) continue;
      std::vector<RankRun> ranks;
      for (int rank = 0; rank < num_ranks; ++rank)
        ranks.emplace_back(graph, before, signature, rank, num_ranks);
      for (std::size_t o = 0; o < node.outputs.size(); ++o) {
        const Array& wanted = values[static_cast<std::size_t>(node.outputs[o].index)];
        double scale = 1e-3;
        for (const double x : wanted.data) scale = std::max(scale, std::abs(x));
        for (int rank = 0; rank < num_ranks; ++rank) {
          std::vector<double> found(ranks[static_cast<std::size_t>(rank)].output(o).begin(),
                                    ranks[static_cast<std::size_t>(rank)].output(o).end());
          std::vector<double> expected = wanted.data;
          if (signature.outputs[o].is_sharded())
            expected = shard(wanted, signature.outputs[o].axis, rank, num_ranks);
          if (signature.outputs[o].is_partial())
            for (int other = 0; other < num_ranks; ++other)
              for (std::size_t i = 0; other != rank && i < found.size(); ++i) {
                const auto x = static_cast<double>(ranks[static_cast<std::size_t>(other)].output(o)[i]);
                found[i] =
                    signature.outputs[o].reduce == ReduceOp::kMax ? std::max(found[i], x) : found[i] + x;
              }
          ASSERT_EQ(found.size(), expected.size());
          for (std::size_t i = 0; i < found.size(); ++i)
            ASSERT_NEAR(found[i], expected[i], 2e-5 * scale)
                << op->name << " (" << sample->name << ") " << text_of(signature) << " on " << num_ranks
                << " ranks, output " << o << ", element " << i;
        }
      }
      ++checked;
    }
  EXPECT_GT(checked, 0);
}

// loss = sum of random weights times the first output, differentiated both ways in double.
TEST_P(OpGradient, MatchesFiniteDifferences) {
  const auto& [op, sample] = GetParam();
  Graph graph = build(*sample);
  const Node node = graph.nodes().back();
  // Contracting every output with random weights makes each of its elements count.
  const std::size_t num_outputs = op == &unstack_op() ? node.outputs.size() : 1;
  std::vector<ValueId> terms;
  for (std::size_t o = 0; o < num_outputs; ++o) {
    const ValueId weights = graph.input("weights." + std::to_string(o), graph.value(node.outputs[o]).desc);
    terms.push_back(matmul(graph, node.outputs[o], weights, {}, "term"));
  }
  const ValueId loss = add(graph, terms, "objective");
  std::vector<ValueId> wanted;
  for (std::size_t v = 0; v < graph.values().size(); ++v)
    if (graph.values()[v].role == Role::kInput && is_floating(graph.values()[v].desc.dtype) &&
        !graph.values()[v].name.starts_with("weights"))
      wanted.push_back({static_cast<int>(v)});
  ASSERT_FALSE(wanted.empty());
  const std::vector<ValueId> gradients = differentiate(graph, loss, wanted);
  verify(graph, "autodiff");
  const Arrays inputs = random_inputs(graph, *sample);
  const auto loss_at = [&](const Arrays& at) {
    return interpret(graph, at)[static_cast<std::size_t>(loss.index)].data[0];
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

TEST_P(OpContract, CostIsPositiveAndScalesWithTheData) {
  const auto& [op, sample] = GetParam();
  const Graph graph = build(*sample);
  const Cost cost = op->cost(graph.args_of(graph.nodes().back()));
  EXPECT_GE(cost.flops, 0.0);
  EXPECT_GT(cost.bytes_written, 0.0) << op->name;
}

std::string name_of_case(const testing::TestParamInfo<Case>& test) {
  std::string name = test.param.op->name + "_" + test.param.sample->name;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(AllOps, OpContract, testing::ValuesIn(all_cases()), name_of_case);
INSTANTIATE_TEST_SUITE_P(DifferentiableOps, OpGradient, testing::ValuesIn(differentiable_cases()),
                         name_of_case);

TEST(OpRegistry, NamesEveryOpOnce) {
  std::set<std::string> names;
  for (const OpDef* op : op_registry())
    EXPECT_TRUE(names.insert(op->name).second) << op->name << " is listed twice";
}

TEST(OpRegistry, EveryOpThatComputesHasAReferenceAKernelARuleAndSamples) {
  for (const OpDef* op : op_registry()) {
    EXPECT_NE(op->infer, nullptr) << op->name;
    EXPECT_NE(op->cost, nullptr) << op->name;
    EXPECT_NE(op->cpu.prepare, nullptr) << op->name;
    if (op->needs_group) continue;
    EXPECT_NE(op->reference, nullptr) << op->name;
    EXPECT_NE(op->placements, nullptr) << op->name;
    EXPECT_FALSE(op->samples.empty()) << op->name;
  }
}

}  // namespace
}  // namespace takt
