// Any mesh equals one rank, for graphs nobody thought of: what ranks as threads compute on a mesh is compared
// with the double-precision reference on the global graph.
#include "tests/random_graph_run.h"

#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/exec/mesh_groups.h"

namespace takt::random_graph {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest element; f32 sums in another order
constexpr double kFloor = 1e-3;      // gradients that are zero by symmetry are noise
constexpr std::uint64_t kSeedsATest = 8;

// What the whole step should give: outputs of every micro-batch, then those of the update.
struct Expected {
  std::vector<Arrays> inputs;  // a micro-batch
  std::vector<std::vector<Array>> micro_batches;
  std::vector<Array> update;
};

std::vector<Array> outputs_of(const Graph& graph, const std::vector<Array>& values) {
  std::vector<Array> outputs;
  for (const ValueId id : graph.outputs()) outputs.push_back(values[static_cast<std::size_t>(id.index)]);
  return outputs;
}

Expected expect(const RandomStep& step) {
  Expected expected;
  Arrays accumulators;
  for (int m = 0; m < kMicroBatches; ++m) {
    Arrays outside = accumulators;
    for (const Value& value : step.micro_batch.values())
      if (value.role == Role::kInput || value.role == Role::kParameter)
        outside[value.name] = random_array(step, value, m);
    const std::vector<Array> values = interpret(step.micro_batch, outside);
    for (std::size_t v = 0; v < values.size(); ++v)
      if (step.micro_batch.values()[v].role == Role::kAccumulator)
        accumulators[step.micro_batch.values()[v].name] = values[v];
    expected.inputs.push_back(std::move(outside));
    expected.micro_batches.push_back(outputs_of(step.micro_batch, values));
  }
  expected.update = outputs_of(step.update, interpret(step.update, accumulators));
  return expected;
}

// One rank of a run, and what it found wrong.
class RankRun {
 public:
  RankRun(const StepPlan& plan, const Expected& expected, Communicator& world)
      : plan_(plan), expected_(expected), executor_(plan, world.rank(), MeshGroups(plan, world)) {}

  std::string run() {
    executor_.run(Action{Action::Kind::kClearAccumulators});
    std::string wrong;
    for (std::size_t m = 0; m < kMicroBatches; ++m) {
      load(executor_, 0, expected_.inputs[m]);
      executor_.run(Action{.program = 0});
      wrong += compare(0, expected_.micro_batches[m], "micro-batch " + std::to_string(m));
    }
    executor_.run(Action{.program = 1});
    return wrong + compare(1, expected_.update, "update");
  }

 private:
  std::string compare(std::size_t program, const std::vector<Array>& wanted, const std::string& what) const {
    const Graph& graph = plan_.programs[program].graph;
    for (std::size_t o = 0; o < wanted.size(); ++o) {
      const Value& value = graph.value(graph.outputs()[o]);
      const std::span<const float> found = executor_.output(program, o);
      double largest = kFloor, error = 0;
      for (const double x : wanted[o].data) largest = std::max(largest, std::abs(x));
      for_each_held(value, plan_.mesh, executor_.coordinates(), [&](std::size_t local, std::size_t global) {
        const double difference = std::abs(static_cast<double>(found[local]) - wanted[o].data[global]);
        if (!(difference <= error) && !std::isnan(error)) error = difference;  // a NaN stays
      });
      if (!(error <= kTolerance * largest))
        return concat(what, ": output ", o, " '", value.name, "' ", value.desc, " is off by ", error, " of ",
                      largest, "\n");
    }
    return {};
  }

  const StepPlan& plan_;
  const Expected& expected_;
  CpuExecutor executor_;
};

std::string run_on(const RandomStep& step, const Expected& expected, const Mesh& mesh,
                   const CompileOptions& options = {}) {
  // Small buckets, so that some hold several gradients and there are several of them.
  const StepPlan plan = compile(step, mesh, 1024, options);
  std::vector<std::string> wrong(static_cast<std::size_t>(mesh.num_ranks()));
  run_ranks(mesh.num_ranks(), [&](Communicator& world) {
    wrong[static_cast<std::size_t>(world.rank())] = RankRun(plan, expected, world).run();
  });
  for (std::size_t rank = 0; rank < wrong.size(); ++rank)
    if (!wrong[rank].empty())
      return concat("rank ", rank, ": ", wrong[rank], to_string(plan.programs[0].graph),
                    to_string(plan.programs[1].graph));
  return {};
}

class RandomGraph : public testing::TestWithParam<std::uint64_t> {};

TEST_P(RandomGraph, EqualsTheReferenceOnAnyMesh) {
  for (std::uint64_t seed = GetParam(); seed < GetParam() + kSeedsATest; ++seed) {
    const RandomStep step = random_step(seed);
    const Expected expected = expect(step);
    for (const int data : {1, 2, 4})
      for (const int tensor : {1, 2, 4}) {
        const Mesh mesh{{{"data", data}, {"tensor", tensor}}};
        std::string wrong;
        try {
          wrong = run_on(step, expected, mesh);
        } catch (const std::exception& error) {
          wrong = error.what();
        }
        ASSERT_EQ(wrong, "") << "seed " << seed << " on " << to_string(mesh) << ", global graph:\n"
                             << to_string(step.micro_batch);
      }
  }
}

// Several mesh axes on one tensor axis: the batch over replica and data, model axes over tensor and inner,
// in either order of the cuts.
ShardingRules nested_rules() {
  ShardingRules rules = model_rules();
  for (const ShardingRule& rule : model_rules())
    if (rule.mesh_axis == "tensor") rules.push_back({rule.axis, "inner", rule.uneven});
  return rules;
}

TEST_P(RandomGraph, EqualsTheReferenceWhereCutsNest) {
  const Mesh meshes[] = {{{{"replica", 2}, {"data", 2}, {"tensor", 2}}},
                         {{{"data", 2}, {"inner", 2}, {"tensor", 2}}},
                         {{{"data", 1}, {"inner", 2, 1}, {"tensor", 2}}},
                         {{{"replica", 2, 1}, {"data", 2}, {"inner", 2, 1}, {"tensor", 2}}}};
  for (std::uint64_t seed = GetParam(); seed < GetParam() + kSeedsATest / 2; ++seed) {
    const RandomStep step = random_step(seed);
    const Expected expected = expect(step);
    for (const Mesh& mesh : meshes) {
      std::string wrong;
      try {
        wrong = run_on(step, expected, mesh, {.rules = nested_rules()});
      } catch (const std::exception& error) {
        wrong = error.what();
      }
      ASSERT_TRUE(wrong.empty()) << "seed " << seed << " on " << to_string(mesh) << ", cuts in order "
                                 << testing::PrintToString(mesh.cut_order()) << ": " << wrong
                                 << ", global graph:\n"
                                 << to_string(step.micro_batch);
    }
  }
}

TEST_P(RandomGraph, EqualsTheReferenceWhereStorageIsCut) {
  const CompileOptions options{.rules = model_rules({.shard = Shard::kParameters}),
                               .rules_of_update = update_rules({.shard = Shard::kParameters})};
  const Mesh meshes[] = {{{{"data", 4, 1}}},
                         {{{"data", 2, 1}, {"tensor", 4}}},
                         {{{"replica", 2, 1}, {"data", 2, 1}, {"tensor", 2}}}};
  for (std::uint64_t seed = GetParam(); seed < GetParam() + kSeedsATest / 2; ++seed) {
    const RandomStep step = random_step(seed);
    const Expected expected = expect(step);
    for (const Mesh& mesh : meshes)
      ASSERT_EQ(run_on(step, expected, mesh, options), "")
          << "seed " << seed << " on " << to_string(mesh) << ", global graph:\n"
          << to_string(step.micro_batch);
  }
}

// The generator is worth something only if its graphs have the ops that matter, sharded and reduced.
TEST(RandomGraphs, ContainEveryOpThatIsDifferentiatedAndEveryReduction) {
  std::set<std::string> found;
  for (std::uint64_t seed = 0; seed < 64; ++seed)
    for (const Program& program : compile(random_step(seed), {{{"data", 2}, {"tensor", 2}}}, 1024).programs)
      for (const Node& node : program.graph.nodes()) found.insert(node.op->name);
  for (const char* op :
       {"activation",     "add",           "attention",  "broadcast", "cross_entropy", "embedding",
        "gated",          "matmul",        "norm",       "reduce",    "reshape",       "rotary",
        "scale",          "softmax",       "stack",      "unstack",   "all_reduce",    "all_gather",
        "reduce_scatter", "keep_on_first", "local_slice"})
    EXPECT_TRUE(found.contains(op)) << op;
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomGraph, testing::Range<std::uint64_t>(0, 64, kSeedsATest));

}  // namespace
}  // namespace takt::random_graph
