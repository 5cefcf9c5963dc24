// Copies that updates write on a GPU: the parameter, rounded, in a program of its own and in that of the last micro-batch.
#include "optimizers/copies_in_updates.h"

#include <gtest/gtest.h>

#include "core/base/bf16.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/small_training.h"

namespace takt {
namespace {

class CudaCopiesInUpdates : public CudaTest {};

TEST_F(CudaCopiesInUpdates, AreTheParametersRounded) {
  const SmallModel model = small_gpt(
      "Llama",
      {.layers = 1, .embed = 16, .heads = 2, .kv_heads = 2, .mlp = 20, .vocab = kVocab, .seq = kSeq});
  const std::unique_ptr<Task> task = model.make();
  const std::unique_ptr<Dataset> dataset = model.data();
  const DataOrder order(1, dataset->num_samples());
  for (const std::string optimizer : {"adamw", "sgd"})
    for (const bool joins : {false, true}) {
      StepConfig step{.global_batch = 4, .micro_batch = 2, .steps = 2, .precision = Precision::kBF16};
      step.optimizer.kind = optimizer;
      if (joins) step.overlap = {.joins_update = true, .extra_bytes = 1 << 20};
      const StepPlan plan = compile_step(*task, step, {{{"data", 1}}}, {DeviceKind::kCuda, 1});
      run_ranks(1, [&](Communicator& world) {
        Trainer trainer(*task, step, plan, world);
        trainer.initialize_weights();
        for (int i = 0; i < 2; ++i) trainer.step(*dataset, order);
        for (const PersistentValue& value : plan.table.values()) {
          if (value.role != Role::kDerived || value.desc.dtype != DType::kBF16) continue;
          const std::vector<float> parameter = read_as<float>(trainer.executor(), value.of);
          const std::vector<BF16> copy = read_as<BF16>(trainer.executor(), value.name);
          for (std::size_t e = 0; e < copy.size(); ++e)
            ASSERT_EQ(copy[e].bits, stored<BF16>(parameter[e]).bits) << value.name << "[" << e << "]";
        }
      });
      const auto last = plan.programs[plan.index_of(joins ? kLastMicroBatch : kUpdate)].graph.nodes();
      EXPECT_TRUE(std::ranges::any_of(
          last, [&](const Node& node) { return node.op->name == optimizer + "_with_copy"; }));
    }
}

}  // namespace
}  // namespace takt
