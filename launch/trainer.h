// Trainer: one rank's training state and what can be done with it: step, evaluate, save, load.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/exec/cpu_executor.h"
#include "core/exec/mesh_groups.h"
#include "core/state/checkpoint.h"
#include "core/state/data_order.h"
#include "core/state/token_dataset.h"
#include "core/state/tokenizer.h"
#include "launch/compile_step.h"
#include "launch/job.h"

namespace takt {

struct StepResult {
  double loss = 0;       // mean over the tokens of the global batch, nats
  double grad_norm = 0;  // before clipping
  double lr = 0;
  double forward_backward_s = 0;
  double update_s = 0;      // reductions, clipping and the optimizer
  double collective_s = 0;  // of both, spent in collectives
};

struct Evaluation {
  double loss = 0;                           // mean over tokens, nats
  std::optional<double> bits_per_byte = {};  // where a tokenizer is given
  bool was_stopped = false;                  // then there are no numbers
};

// Every rank of `world` makes one and makes the same calls. Plan and job are borrowed.
class Trainer {
 public:
  Trainer(const Job& job, const StepPlan& plan, Communicator& world);

  // Random weights, the same for every mesh: each element is a function of seed, tensor name and global
  // index.
  void initialize_weights();

  // After weights were loaded or imported: computes what is derived from them. initialize_weights does it itself.
  void start();

  // One optimizer step on the next samples in `order`; moves the cursor on. Where loss or gradients are not
  // finite, the weights stay as they were: the caller looks at the result.
  StepResult step(const TokenDataset& data, const DataOrder& order);

  // The mean loss over the first `num_samples` samples of `data` (0: all), each counted once on any mesh.
  // Between micro-batches every rank asks `stop`, where one is given, which must say the same on all.
  Evaluation evaluate(const TokenDataset& data, std::int64_t num_samples, const Tokenizer* tokenizer,
                      const std::function<bool()>& stop = {});

  // This rank's parameters and optimizer state, for save_checkpoint and load_checkpoint. Valid while the
  // trainer lives.
  std::vector<TensorShard> shards();
  // Names and shapes of the parameters as other software knows them.
  std::vector<ExportedTensor> exported() const;

  // Of the whole model, on every rank.
  bool weights_are_finite();

  TrainingCursor& cursor() { return cursor_; }
  const TrainingCursor& cursor() const { return cursor_; }
  const BatchPlan& batch() const { return batch_; }
  const CpuExecutor& executor() const { return executor_; }
  std::int64_t num_parameters() const;  // of the whole model

 private:
  int data_rank() const;
  // Writes tokens and targets of samples_ where the program reads them.
  void load_micro_batch(const TokenDataset& data, int micro_batch);
  float scalar(std::string_view output) const;
  bool is_first_along_all_but(const Axis& mesh_axis) const;

  const Job& job_;
  const StepPlan& plan_;
  Communicator& world_;
  BatchPlan batch_;
  MeshGroups groups_;
  CpuExecutor executor_;
  TrainingCursor cursor_;
  // Of one micro-batch; kept, so that a step allocates nothing.
  std::vector<std::int64_t> samples_;
  std::vector<std::int32_t> tokens_, targets_;
  std::vector<float> losses_;
};

}  // namespace takt
