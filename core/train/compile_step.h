// compile_step: from a task to the step that every rank runs. The map of the house: one line a stage.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/passes/derive.h"
#include "core/passes/parallelize.h"
#include "core/passes/step_plan.h"
#include "core/train/batch_plan.h"
#include "core/train/step_config.h"
#include "core/train/task.h"

namespace takt {

// Names of the values that the trainer writes and reads.
inline constexpr std::string_view kHyper = "hyper";
inline constexpr std::string_view kLossOfStep = "loss.of_step";  // the mean over the global batch
inline constexpr std::string_view kGradNorm = "grad_norm";       // before clipping
// Not 0 once a step had a loss or a norm that is not finite: no update is applied from then on. See applied_factor.
inline constexpr std::string_view kFailed = "failed";

// Programs.
inline constexpr std::string_view kMicroBatch =
    "micro_batch";                                     // forward and backward, adds to the accumulators
inline constexpr std::string_view kUpdate = "update";  // reduces and clips gradients, updates
// With train.numerics = "invariant", see core/passes/sum_levels.h: sums of level l move up by "carry.<l>".
inline constexpr std::string_view kCarry = "carry.";
inline constexpr std::string_view kCollect =
    "collect";  // all levels into the accumulators, before the update
// All that follows the first M - 1 micro-batches of a step, as one program: see Overlap.
inline constexpr std::string_view kLastMicroBatch = "last_micro_batch";
inline constexpr std::string_view kRefresh = "refresh";      // copies of parameters, where there are any
inline constexpr std::string_view kConstants = "constants";  // tables that never change, where there are any
inline constexpr std::string_view kEvaluate = "evaluate";    // outputs: losses and metrics of a micro-batch
inline constexpr std::string_view kPredict = "predict";      // output: what the model says of its inputs

// Sees a program after each pass of pass_names().
using PassObserver = std::function<void(std::string_view pass, std::string_view program, const Graph& graph)>;
std::vector<std::string> pass_names();

// The programs of a step before they meet a mesh: built, differentiated, in their precision, reading derived values.
// Axis "batch" has as many samples as they were last asked for.
struct GlobalPrograms {
  std::int64_t num_samples = 0;
  GlobalProgram micro_batch, evaluate, update, refresh, constants;
};

// Compiles one task for one mesh after another: what does not depend on the mesh is done once.
class StepCompiler {
 public:
  // The task is borrowed. `observer`, where there is one, sees all programs after all passes.
  StepCompiler(const Task& task, StepConfig config, PassObserver observer = {});

  // Throws kConfig where the batch or an axis cannot be split.
  StepPlan compile(const Mesh& mesh, const RankDevice& device);
  // The same plan unverified: to be priced beside others, not to be run.
  StepPlan candidate(const Mesh& mesh, const RankDevice& device);

  // For what is compiled from now on.
  void set_recompute(Recompute what);

  // The extents of the model that `mesh_axis` must divide.
  std::vector<Dim> extents_to_divide(const Axis& mesh_axis) const;
  BatchPlan batch(const Mesh& mesh) const { return plan_batch(config_, task_.unit(), mesh); }
  const StepConfig& config() const { return config_; }

 private:
  // For so many samples at once. `copies` are of all parameters where their masters are cut.
  const GlobalPrograms& programs(std::int64_t num_samples, Copies copies);
  GlobalPrograms build(std::int64_t num_samples, Copies copies) const;
  void observe(std::string_view pass, std::string_view program, const Graph& graph) const;

  const Task& task_;
  StepConfig config_;
  PassObserver observer_;
  std::map<Copies, GlobalPrograms> programs_;
};

// The same for one mesh.
StepPlan compile_step(const Task& task, const StepConfig& config, const Mesh& mesh, const RankDevice& device,
                      const PassObserver& observer = {});

// A program of one rank that applies the model to `num_samples` samples: see Predictor.
StepPlan compile_prediction(const Task& task, std::int64_t num_samples, int num_threads);

}  // namespace takt
