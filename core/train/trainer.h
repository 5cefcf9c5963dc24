// Trainer: one rank's training state and what can be done with it: step, evaluate, save, load.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/exec/make_executor.h"
#include "core/state/checkpoint.h"
#include "core/state/data_order.h"
#include "core/state/dataset.h"
#include "core/train/compile_step.h"
#include "optimizers/optimizer.h"

namespace takt {

// Where the time of a step went, on this rank.
struct StepSections {
  double forward_backward_s = 0;
  double update_s = 0;      // reductions, clipping and the optimizer
  double collective_s = 0;  // in collectives
  double exposed_s = 0;     // of that, while the rank computed nothing
};

struct StepResult {
  std::int64_t step = 0;     // its number; the first is 1
  std::int64_t samples = 0;  // of all steps up to this one
  double loss = 0;           // mean over the global batch
  double grad_norm = 0;      // before clipping
  double lr = 0;
  double time_s = 0;                          // from the end of the step before, or its own begin, to its end
  std::optional<StepSections> sections = {};  // none: not measured, see ExecutorOptions::time_ops
};

struct Evaluation {
  double loss = 0;                                           // mean over the samples
  std::vector<std::pair<std::string, double>> figures = {};  // metrics and figures of the task, by name
  bool was_stopped = false;                                  // then there are no numbers
};

// Every rank of `world` makes one and makes the same calls. Everything but the config is borrowed.
class Trainer {
 public:
  // `plan` is what compile_step makes of task and config.
  Trainer(const Task& task, const StepConfig& config, const StepPlan& plan, Communicator& world,
          const ExecutorOptions& options = {});

  // Random weights, the same for every mesh: each element is a function of seed, tensor name and global
  // index.
  void initialize_weights();

  // After weights were loaded or imported: computes what is derived from them. initialize_weights does it itself.
  void start();

  // One optimizer step on the next samples in `order`; moves the cursor on. Where loss or gradients are not finite, the
  // weights stay as they were, and are not changed by later steps either: the caller looks at the result.
  StepResult step(const Dataset& data, const DataOrder& order);

  // The same in two parts, so that a GPU computes while the host looks at the step before:
  //
  //   trainer.start_step(data, order);
  //   while (trainer.num_unfinished() > trainer.num_ahead()) look_at(trainer.finish_step());
  //
  // Whatever reads weights or evaluates wants all steps finished.
  void start_step(const Dataset& data, const DataOrder& order);
  // The result of the oldest step that is not finished; waits for it.
  StepResult finish_step();
  int num_unfinished() const { return num_unfinished_; }
  // How many steps to leave unfinished: 1 where the executor runs beside the host, else 0.
  int num_ahead() const { return executor_->runs_beside_host() ? 1 : 0; }

  // After a step whose numbers are not finite, with all steps finished: computes its micro-batches again, one by one, and
  // says in which of them, on which rank, in which gradient it shows first; empty where it does not show again. Every rank
  // calls it and gets the same words. The weights must be those that the step read, and stay.
  std::string trace_failure(const StepResult& failed, const Dataset& data, const DataOrder& order);

  // The mean loss over the first `num_samples` samples of `data` (0: all), each counted once on any mesh.
  // Between micro-batches every rank asks `stop`, where one is given, which must say the same on all.
  Evaluation evaluate(const Dataset& data, std::int64_t num_samples = 0,
                      const std::function<bool()>& stop = {});

  // This rank's parameters and optimizer state, for save_checkpoint and load_checkpoint. Valid while the
  // trainer lives.
  std::vector<TensorShard> shards();
  // Names and shapes of the parameters as other software knows them.
  std::vector<ExportedTensor> exported() const;

  // Of the whole model, on every rank.
  bool weights_are_finite();

  // Of all steps of this trainer; empty where the executor was not asked for them.
  const std::map<std::string, OpTime>& op_times() const { return op_times_; }

  TrainingCursor& cursor() { return cursor_; }
  const TrainingCursor& cursor() const { return cursor_; }
  const BatchPlan& batch() const { return batch_; }
  const Executor& executor() const { return *executor_; }
  std::int64_t num_parameters() const;  // of the whole model

 private:
  using Clock = std::chrono::steady_clock;

  // A step that is queued: what is known of it already.
  struct BegunStep {
    StepResult result;
    Clock::time_point start;
  };
  // An input that the dataset fills. Staging: where the host cannot reach the executor's own storage.
  struct Input {
    std::string name;
    DType dtype = DType::kF32;
    std::size_t num_bytes = 0;
    std::vector<std::byte> staging = {};
  };
  // Of an output of the evaluate program: elements a sample, and where they are read to.
  struct SampleNumbers {
    std::string name;
    std::size_t per_sample = 1;
    std::vector<float> numbers = {};
  };

  void list_inputs();
  void list_outputs();
  int data_rank() const;
  // Writes the inputs of samples_ where the program reads them in `slot`.
  void load_micro_batch(const Dataset& data, int slot);
  // samples_ of the step that follows the cursor.
  void draw_samples(const DataOrder& order, int micro_batch);
  // Adds what the outputs say of the first `num_counted` samples: a sum an output.
  void add_outputs(std::int64_t num_counted, std::span<double> sums);
  // Runs an action of a step: writes what its program reads, and begins to read what it tells the host.
  void run_action(const Action& action, const StepHyper& hyper, const Dataset& data, const DataOrder& order);
  int input_slot(int micro_batch) const;
  std::optional<StepSections> sections_since(Clock::time_point start) const;
  void require_finished(std::string_view for_what) const;
  // The first sum of gradients, or of the loss, with a number on this rank that is not finite; empty: none.
  std::string first_non_finite();
  bool counts_its_samples() const;

  const Task& task_;
  const StepConfig config_;
  const StepPlan& plan_;
  Communicator& world_;
  BatchPlan batch_;
  std::unique_ptr<Executor> executor_;
  TrainingCursor cursor_;
  std::array<BegunStep, kReadSlots> begun_;  // step n at n % kReadSlots
  int num_unfinished_ = 0;
  Clock::time_point last_end_ = {};  // of a step
  std::map<std::string, OpTime> op_times_;
  Clock::time_point update_start_ = {};  // of the step that begins
  // Of one micro-batch; kept, so that a step allocates nothing.
  std::vector<std::int64_t> samples_;
  std::vector<Input> inputs_;
  std::vector<NamedBuffer> buffers_;
  std::vector<SampleNumbers> outputs_;
};

}  // namespace takt
