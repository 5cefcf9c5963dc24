// The bf16 copy of a parameter is written by the update itself: the same bits, and fewer bytes moved.
#include "optimizers/copies_in_updates.h"

#include <gtest/gtest.h>

#include "collectives/local.h"
#include "core/base/bf16.h"
#include "core/ops/builders.h"
#include "core/ops/op_cost.h"
#include "core/train/language_task.h"
#include "core/train/trainer.h"
#include "optimizers/optimizer.h"
#include "tests/chain_dataset.h"

namespace takt {
namespace {

LanguageTask small_gpt() {
  return LanguageTask({.layers = 2, .embed = 16, .heads = 4, .kv_heads = 2, .vocab = 37, .seq = 12});
}

StepConfig config_of(const std::string& optimizer, Shard shard) {
  StepConfig config{.global_batch = 8,
                    .micro_batch = 2,
                    .steps = 3,
                    .precision = Precision::kBF16,
                    .layout = {.shard = shard}};
  config.optimizer.kind = optimizer;
  config.optimizer.lr = 0.01;
  return config;
}

double bytes_of(const Graph& graph) {
  double num_bytes = 0;
  for (const Node& node : graph.nodes()) {
    const Cost cost = cost_of(*node.op, graph.args_of(node));
    num_bytes += cost.bytes_read + cost.bytes_written;
  }
  return num_bytes;
}

// Of parameters that the plan has a bf16 copy of, in elements.
double copied_elements(const StepPlan& plan) {
  double num = 0;
  for (const PersistentValue& value : plan.table.values())
    if (value.role == Role::kDerived && value.desc.dtype == DType::kBF16)
      num += static_cast<double>(value.desc.num_elements());
  return num;
}

bool runs(const StepPlan& plan, std::string_view program) {
  return std::ranges::any_of(plan.step, [&](const Action& action) {
    return action.kind == Action::Kind::kRun &&
           plan.programs[static_cast<std::size_t>(action.program)].name == program;
  });
}

TEST(CopiesInUpdates, AStepWhoseCopiesAreCastsHasNoRefresh) {
  for (const std::string optimizer : {"adamw", "sgd"}) {
    const StepPlan plan = compile_step(small_gpt(), config_of(optimizer, Shard::kNone), {{{"data", 1}}}, 1);
    ASSERT_GT(copied_elements(plan), 0);
    EXPECT_FALSE(runs(plan, kRefresh));
    const Graph& update = plan.programs[plan.index_of(kUpdate)].graph;
    for (const Node& node : update.nodes()) EXPECT_NE(node.op->name, "cast") << node.name;
    // Written with the update, a copy is 2 bytes an element; cast it is 4 + 2, and assigned 2 + 2 + 2 more.
    StepConfig whole = config_of(optimizer, Shard::kNone);
    whole.precision = Precision::kF32;
    const StepPlan plain = compile_step(small_gpt(), whole, {{{"data", 1}}}, 1);
    EXPECT_EQ(bytes_of(update) - bytes_of(plain.programs[plain.index_of(kUpdate)].graph),
              2 * copied_elements(plan));
    EXPECT_EQ(bytes_of(plan.programs[plan.index_of(kRefresh)].graph), 12 * copied_elements(plan));
  }
}

TEST(CopiesInUpdates, AStepWhoseMastersAreCutGathersAfterTheUpdate) {
  const Mesh mesh{{{"data", 2}}};
  StepConfig config = config_of("adamw", Shard::kOptimizer);
  EXPECT_TRUE(runs(compile_step(small_gpt(), config, mesh, 1), kRefresh));
}

TEST(CopiesInUpdates, ACopyThatIsReadLaterIsLeftAlone) {
  const TensorDesc desc{{{"embed", 4}}, DType::kF32};
  for (const bool reads_late : {false, true}) {
    Graph graph;
    const ValueId copy = graph.persistent("copy", {desc.dims, DType::kBF16}, Role::kDerived, "p");
    UpdateInputs inputs{.parameter = graph.parameter("p", desc, {}),
                        .gradient = graph.input("gradient", desc),
                        .hyper = graph.input("hyper", {{{"hyper", 3}}, DType::kF32}),
                        .factor = graph.input("factor", {})};
    inputs.state = {graph.persistent("u", desc, Role::kState)};
    find_optimizer("sgd").append(graph, {}, std::vector{inputs});
    const ValueId updated = graph.nodes().back().outputs[0];
    if (reads_late) graph.mark_output(cast(graph, copy, DType::kF32, "before"));
    assign(graph, copy, cast(graph, updated, DType::kBF16, "rounded"), "assigned");
    const Graph found = with_copies_in_updates(graph);
    verify(found, "copies in updates");
    EXPECT_EQ(found.nodes().size(), reads_late ? 4u : 1u);
  }
}

// After every step, on every kind of mesh: the copy is the parameter, rounded.
TEST(CopiesInUpdates, CopiesAreTheParametersRounded) {
  const LanguageTask task = small_gpt();
  const Chain chain(12, 37);
  const DataOrder order(1, chain.num_samples());
  for (const std::string optimizer : {"adamw", "sgd"})
    for (const auto& [data, tensor] : {std::pair(1, 1), {2, 1}, {1, 2}}) {
      const StepConfig config = config_of(optimizer, Shard::kNone);
      const StepPlan plan = compile_step(task, config, {{{"data", data, 1}, {"tensor", tensor}}}, 1);
      run_ranks(data * tensor, [&](Communicator& world) {
        Trainer trainer(task, config, plan, world);
        trainer.initialize_weights();
        for (int step = 0; step < 3; ++step) {
          trainer.step(chain, order);
          for (const PersistentValue& value : plan.table.values()) {
            if (value.role != Role::kDerived || value.desc.dtype != DType::kBF16) continue;
            const std::vector<float> parameter = read_as<float>(trainer.executor(), value.of);
            const std::vector<BF16> copy = read_as<BF16>(trainer.executor(), value.name);
            ASSERT_EQ(copy.size(), parameter.size());
            for (std::size_t i = 0; i < copy.size(); ++i)
              ASSERT_EQ(copy[i].bits, stored<BF16>(parameter[i]).bits) << value.name << "[" << i << "]";
          }
        }
      });
    }
}

}  // namespace
}  // namespace takt
