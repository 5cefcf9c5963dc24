// compile_step: from a job to the step that every rank runs. The map of the house: one line a stage.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/passes/step_plan.h"
#include "launch/job.h"

namespace takt {

// Sizes that follow from the job and the mesh.
struct BatchPlan {
  std::int64_t samples_a_step = 0;         // over all ranks
  std::int64_t micro_batch = 0;            // samples a data rank computes at once
  std::int64_t num_micro_batches = 0;      // a step
  std::int64_t samples_a_micro_batch = 0;  // over all data ranks
};
// Throws kConfig if the batch cannot be split, naming sizes that fit.
BatchPlan plan_batch(const Job& job, const Mesh& mesh);

// Names of the values that the trainer writes and reads.
inline constexpr std::string_view kTokens = "tokens";
inline constexpr std::string_view kTargets = "targets";
inline constexpr std::string_view kHyper = "hyper";
inline constexpr std::string_view kLosses =
    "loss";  // of every token of a validation micro-batch: [batch, seq]
inline constexpr std::string_view kLossOfStep = "loss.of_step";  // the mean over the global batch
inline constexpr std::string_view kGradNorm = "grad_norm";       // before clipping

// Programs.
inline constexpr std::string_view kMicroBatch =
    "micro_batch";                                     // forward and backward, adds to the accumulators
inline constexpr std::string_view kUpdate = "update";  // reduces and clips gradients, updates
// All that follows the first M - 1 micro-batches of a step, as one program: see Overlap.
inline constexpr std::string_view kLastMicroBatch = "last_micro_batch";
inline constexpr std::string_view kRefresh = "refresh";      // copies of parameters, where there are any
inline constexpr std::string_view kConstants = "constants";  // tables that never change, where there are any
inline constexpr std::string_view kEvaluate = "evaluate";    // the losses of a validation micro-batch

// Sees a program after each pass of pass_names().
using PassObserver = std::function<void(std::string_view pass, std::string_view program, const Graph& graph)>;

// What is done to hide communication behind computation. Only executors that compute beside a collective profit.
struct Overlap {
  bool joins_update =
      false;  // the last micro-batch and the update are one program: gradients are reduced as they come
  std::size_t extra_bytes =
      0;  // that a program's temporary values may take beyond what they need without overlap
};

// `job.model` must be complete (see complete_job). Throws kConfig.
StepPlan compile_step(const Job& job, const Mesh& mesh, int num_threads, const PassObserver& observer = {},
                      const Overlap& overlap = {});

// A one-rank program that maps tokens [1, seq] to logits, for text generation; outputs: logits.
StepPlan compile_logits(const Job& job, int num_threads);

std::vector<std::string> pass_names();

}  // namespace takt
