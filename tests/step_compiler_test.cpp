// What is kept between two layouts of a task changes nothing about the plan of the second.
#include <gtest/gtest.h>

#include "core/train/regression_task.h"
#include "tests/gpt_step.h"

namespace takt {
namespace {

std::string text_of(const StepPlan& plan) {
  std::string text;
  for (const Program& program : plan.programs) text += program.name + "\n" + to_string(program.graph);
  for (const PersistentValue& value : plan.table.values())
    text += concat(value.name, " ", value.desc, " ", to_string(value.placement), " at ",
                   plan.arena.persistents.at(value.name).offset, "\n");
  return text + std::to_string(plan.arena.num_bytes());
}

Mesh mesh_of(int data, int tensor) {
  return {{{"data", data, 1}, {"tensor", tensor}}};
}

void expect_same_as_fresh(const Task& task, const StepConfig& config) {
  StepCompiler compiler(task, config);
  for (const auto& [data, tensor] : {std::pair(1, 1), {4, 1}, {2, 2}, {1, 4}, {8, 1}, {1, 1}}) {
    const Mesh mesh = mesh_of(data, tensor);
    EXPECT_EQ(text_of(compiler.candidate(mesh, 2)), text_of(compile_step(task, config, mesh, 2)))
        << "data=" << data << " tensor=" << tensor;
  }
}

TEST(StepCompiler, ALayoutAfterOthersIsCompiledAsTheFirst) {
  for (const Shard shard : {Shard::kNone, Shard::kOptimizer})
    for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
      const StepConfig config{
          .global_batch = 16, .micro_batch = 2, .precision = precision, .layout = {.shard = shard}};
      expect_same_as_fresh(
          LanguageTask({.layers = 2, .embed = 32, .heads = 4, .kv_heads = 2, .vocab = 64, .seq = 8}), config);
      expect_same_as_fresh(
          LanguageTask({.family = "gpt2", .layers = 2, .embed = 32, .heads = 4, .vocab = 61, .seq = 8}),
          config);
      expect_same_as_fresh(
          RegressionTask({.layers = 2, .embed = 16}, {.input_shape = {2, 3}, .output_shape = {5}}), config);
    }
}

TEST(StepCompiler, KnowsWhichExtentsAMeshAxisMustDivide) {
  const LanguageTask gpt({.layers = 1, .embed = 32, .heads = 4, .kv_heads = 2, .vocab = 64, .seq = 8});
  EXPECT_EQ(StepCompiler(gpt, {}).extents_to_divide("tensor"), (std::vector<Dim>{{"heads", 4}}));
  const RegressionTask mlp({}, {.input_shape = {3}, .output_shape = {5}});
  EXPECT_TRUE(StepCompiler(mlp, {}).extents_to_divide("tensor").empty());
}

}  // namespace
}  // namespace takt
