// Ops that are timed: a run that is asked for their times computes the same, and every node is in the table.
#include <gtest/gtest.h>

#include "core/exec/cuda_executor.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"

namespace takt {
namespace {

SmallTraining training_of() {
  SmallTraining training{.step = {.global_batch = 8, .micro_batch = 2, .steps = 3, .grad_clip = 0.8},
                         .data = 2};
  training.step.layout.shard = Shard::kOptimizer;
  training.step.bucket_bytes = 2000;
  training.step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
  return training;
}

struct Timed {
  Trained trained;
  std::map<std::string, OpTime> ops;
  std::optional<StepSections> sections;
};

Timed train(DeviceKind device, bool time_ops) {
  const SmallTraining training = training_of();
  const SmallModel model = small_mlp({.layers = 1, .embed = 8, .mlp = 10});
  const std::unique_ptr<Task> task = model.make();
  const std::unique_ptr<Dataset> data = model.data();
  const StepPlan plan = compile_step(*task, training.step, training.mesh(), {device, 1});
  const DataOrder order(1, data->num_samples());
  Timed timed;
  run_ranks(2, [&](Communicator& world) {
    Trainer trainer(*task, training.step, plan, world, {.gpu = world.rank(), .time_ops = time_ops});
    Trained trained = train_rank(trainer, training.num_steps, *data, order);
    const StepResult last = trainer.step(*data, order);
    if (world.rank() == 0) timed = {std::move(trained), trainer.op_times(), last.sections};
  });
  // Calls of four steps, by name.
  std::map<std::string, std::int64_t> num_calls;
  for (const Action& action : plan.step) {
    if (action.kind != Action::Kind::kRun) continue;
    const Graph& graph = plan.programs[static_cast<std::size_t>(action.program)].graph;
    for (const Node& node : graph.nodes()) {
      const bool waits = node.op->awaits;
      if (waits && device == DeviceKind::kCpu) continue;
      const Node& of = waits ? graph.node(graph.value(node.inputs[0]).producer) : node;
      num_calls[concat(waits ? "wait for " : "", of.op->name,
                       of.mesh_axes.empty() ? "" : concat("<", to_string(of.mesh_axes), ">"))] += 4;
    }
  }
  if (!time_ops) return timed;
  EXPECT_EQ(timed.ops.size(), num_calls.size());
  for (const auto& [name, wanted] : num_calls) EXPECT_EQ(timed.ops[name].num_calls, wanted) << name;
  return timed;
}

class OpTimes : public CudaTest {};

TEST_F(OpTimes, CountEveryNodeAndChangeNothing) {
  for (const DeviceKind device : {DeviceKind::kCpu, DeviceKind::kCuda}) {
    SCOPED_TRACE(device == DeviceKind::kCpu ? "cpu" : "cuda");
    const Timed plain = train(device, false), timed = train(device, true);
    EXPECT_EQ(timed.trained, plain.trained);
    EXPECT_TRUE(plain.ops.empty());
    EXPECT_EQ(plain.sections.has_value(), device == DeviceKind::kCpu);
    ASSERT_TRUE(timed.sections.has_value());
    EXPECT_GT(timed.ops.at("matmul").time_s, 0);
    EXPECT_GT(timed.sections->collective_s, 0);
    EXPECT_GT(timed.sections->forward_backward_s, 0);
  }
}

}  // namespace
}  // namespace takt
