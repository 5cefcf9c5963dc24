// TrainingRun: one step after another, with validations and checkpoints in between.
#include "launch/training_run.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>

#include "collectives/share.h"
#include "core/device/cpu_peak.h"
#include "core/device/gpu_peaks.h"
#include "core/state/weights_hash.h"
#include "launch/ask_root.h"
#include "launch/resume.h"
#include "launch/start_weights.h"
#include "launch/stop_signal.h"

namespace takt {
namespace {

double peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024.0;
}

// The best any rank reached: what slows one rank down for a moment must not make the others look better.
double peak_of_ranks(int num_threads, Communicator& comm) {
  comm.barrier({"peak"});  // all ranks of a host at once: that is how a step runs
  double peak = measure_peak_flops_per_s(num_threads,
                                         [&] { comm.note_progress({.doing = "measuring the processor"}); });
  comm.all_reduce(&peak, 1, DType::kF64, ReduceOp::kMax, {"peak"});
  comm.note_progress({.doing = "preparing kernels"});
  return peak;
}

// What a launcher does with a signal decides which one is safe: Open MPI's mpirun kills its ranks about a
// second after SIGINT or SIGTERM, and a step may well take longer.
std::string stop_advice() {
  const LauncherView launcher = launcher_view();
  if (launcher.open_mpi_ranks || launcher.pmi_ranks)
    return "to stop with a checkpoint: SIGUSR1 to mpirun; Ctrl-C or SIGTERM there kills the ranks within a "
           "second";
  if (launcher.slurm_step) return "to stop with a checkpoint: scancel --signal=USR1 to the job step";
  return "to stop with a checkpoint: Ctrl-C, SIGTERM or SIGUSR1";
}

}  // namespace

TrainingRun::TrainingRun(const PreparedRun& prepared, const RunOptions& options,
                         const CommandContext& context)
    : prepared_(prepared),
      world_(*context.world),
      peak_flops_per_s_(prepared.device == DeviceKind::kCpu
                            ? peak_of_ranks(prepared.plan.device.num_threads, world_.comm())
                            : peak_flops_per_s(prepared.gpu, prepared.job.train.precision == "bf16")),
      trainer_(*prepared.task, prepared.config, prepared.plan, world_.comm(), prepared.executor),
      order_(prepared.job.seed, prepared.data.train->num_samples()),
      unit_(prepared.task->unit()),
      flops_a_step_(cost_of(prepared.plan.programs[prepared.plan.index_of(kMicroBatch)]).useful_flops *
                    static_cast<double>(prepared.batch.num_micro_batches)) {
  trainer_.cursor().compared = compared_facts(prepared.job, prepared.data.train->content_hash());
  open_directory(options, context);
  saved_directory_ = start_weights(directory_, options.resume, prepared, trainer_, world_.comm(),
                                   [&](std::string_view text) {
                                     if (is_root()) console_->print(text);
                                   });
  first_step_ = trainer_.cursor().step;
  if (!saved_directory_.empty()) {
    saved_step_ = first_step_;
    world_.watchdog().set_last_checkpoint(checkpoint_name(saved_step_));
  }
  agree(world_.comm(), [&] {
    if (!is_root()) return;
    keep_earlier_metrics();
    last_loss_ = number_of_step(directory_.metrics(), first_step_, "loss");
    metrics_ = std::make_unique<MetricsWriter>(directory_.metrics(), first_step_);
    print_header();
    console_->print(stop_advice());
    for (const std::string& notice : prepared_.notices) console_->print(notice);
  });
}

int TrainingRun::run() {
  const Job& job = prepared_.job;
  if (is_finished()) {
    if (is_root())
      console_->print(fmt::format("nothing to do: this run has done its {} steps; the model is in {}",
                                  job.train.steps, directory_.final_model().string()));
    return 0;
  }
  start_ = last_save_ = Clock::now();
  if (owes_validation()) validate();
  if (!is_stopped_) is_stopped_ = share_stop();
  if (!is_stopped_) train();
  return finish();
}

void TrainingRun::train() {
  const Job& job = prepared_.job;
  while (trainer_.cursor().step < job.train.steps && !is_stopped_) {
    trainer_.start_step(*prepared_.data.train, order_);
    const std::int64_t step = trainer_.cursor().step;
    const bool validates = is_due(job.eval.every) || step == job.train.steps;
    Wishes wishes{.checkpoint = is_due(job.checkpoint.every_steps)};
    report_finished(validates || wishes.checkpoint ? 0 : num_ahead(), wishes);
    if (wishes.stop || wishes.checkpoint) report_finished(0, wishes);
    // After the last step only a validation is worth interrupting.
    is_stopped_ = wishes.stop && (step < job.train.steps || prepared_.data.valid);
    if (validates) validate();
    if (wishes.checkpoint || is_stopped_) save();
  }
  if (!is_stopped_) validate();
}

// After the step that began last.
bool TrainingRun::is_due(std::int64_t every_steps) const {
  return every_steps > 0 && trainer_.cursor().step % every_steps == 0;
}

void TrainingRun::report_finished(int num_left, Wishes& wishes) {
  while (trainer_.num_unfinished() > num_left) {
    const StepResult result = trainer_.finish_step();
    const StepTimes times = share_times(result);
    if (!is_skipped(result)) {
      last_loss_ = result.loss;
      report_step(result, times);
    }
    wishes.stop = wishes.stop || times.stop > 0;
    wishes.checkpoint = wishes.checkpoint || times.checkpoint_due > 0;
  }
}

// An evaluation that was due at the checkpoint and interrupted: so that a stopped run leaves the same
// numbers.
bool TrainingRun::owes_validation() const {
  const std::int64_t every = prepared_.job.eval.every;
  return ask_root_whether(world_.comm(), [&] {
    return every > 0 && first_step_ > 0 && first_step_ % every == 0 && last_loss_ &&
           !number_of_step(directory_.metrics(), first_step_, "valid_loss");
  });
}

// All ranks stop if one was asked to.
bool TrainingRun::share_stop() {
  std::int32_t stop = stop_requested() ? 1 : 0;
  world_.comm().all_reduce(&stop, 1, DType::kI32, ReduceOp::kMax, {"stop"});
  return stop != 0;
}

// The same command again, after the end: what the run left behind stays as it is.
bool TrainingRun::is_finished() const {
  return ask_root_whether(world_.comm(), [&] {
    return trainer_.cursor().step >= prepared_.job.train.steps && first_step_ > 0 &&
           std::filesystem::exists(directory_.summary()) &&
           std::filesystem::exists(directory_.final_model() / "config.json");
  });
}

TrainingRun::StepTimes TrainingRun::share_times(const StepResult& result) {
  const CheckpointConfig& config = prepared_.job.checkpoint;
  const bool due =
      config.every_s > 0 && is_root() && seconds_between(last_save_, Clock::now()) > config.every_s;
  const StepSections sections = result.sections.value_or(StepSections{});
  double numbers[] = {result.time_s,       sections.collective_s,        sections.exposed_s,
                      peak_memory_bytes(), stop_requested() ? 1.0 : 0.0, due ? 1.0 : 0.0};
  world_.comm().all_reduce(numbers, std::size(numbers), DType::kF64, ReduceOp::kMax, {"step times"});
  sums_.forward_backward_s += sections.forward_backward_s;
  sums_.update_s += sections.update_s;
  sums_.collective_s += sections.collective_s;
  sums_.exposed_s += sections.exposed_s;
  sums_.step_s += result.time_s;
  are_sections_known_ = result.sections.has_value();
  return {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]};
}

// All ranks hold the same sums, so all of them see it. A step that began meanwhile changes nothing, but it ends before the
// failed one is computed again, and before the communicators go.
bool TrainingRun::is_skipped(const StepResult& result) {
  if (std::isfinite(result.loss) && std::isfinite(result.grad_norm)) {
    num_skipped_in_row_ = 0;
    return false;
  }
  while (trainer_.num_unfinished() > 0) trainer_.finish_step();
  const std::string where = trainer_.trace_failure(result, *prepared_.data.train, order_);
  const std::string what =
      concat("step ", result.step, ": loss ", result.loss, ", gradient norm ", result.grad_norm,
             where.empty() ? "" : "; it shows first in " + where, "; this update was not applied");
  constexpr int kMostInRow = 10;
  ++num_skipped_;
  if (prepared_.job.guard.nan != "skip") fail_numerics(what);
  if (++num_skipped_in_row_ >= kMostInRow)
    fail_numerics(concat(what, ", nor the ", kMostInRow - 1, " before it"));
  if (is_root()) console_->print(what);
  return true;
}

void TrainingRun::fail_numerics(const std::string& what) const {
  const std::string last = saved_directory_.empty() ? "there is no checkpoint yet"
                                                    : "the last checkpoint is " + saved_directory_.string();
  Error error(Fault::kNumerics,
              what + "\n  " + last + "\n  try a lower optimizer.lr, a longer warmup, or train.grad_clip");
  error.set_agreed();
  throw error;
}

void TrainingRun::validate() {
  if (!prepared_.data.valid || validated_step_ == trainer_.cursor().step || is_stopped_) return;
  const Clock::time_point before = Clock::now();
  const Evaluation evaluation =
      trainer_.evaluate(*prepared_.data.valid, prepared_.job.eval.samples, [&] { return share_stop(); });
  is_stopped_ = evaluation.was_stopped;
  if (is_stopped_) return;
  evaluation_ = evaluation;
  validated_step_ = trainer_.cursor().step;
  double& best = trainer_.cursor().best_valid_loss;
  const bool is_best = std::isfinite(evaluation_->loss) && (best == 0 || evaluation_->loss < best);
  if (is_best) best = evaluation_->loss;
  if (!is_root()) return;
  const ValidMetrics metrics{
      .step = validated_step_, .valid_loss = evaluation_->loss, .figures = evaluation_->figures};
  metrics_->write(metrics);
  console_->print(ValidLine{.step = validated_step_,
                            .steps = prepared_.job.train.steps,
                            .loss = evaluation_->loss,
                            .figures = evaluation_->figures,
                            .time_s = seconds_between(before, Clock::now()),
                            .is_best = is_best});
}

void TrainingRun::save() {
  const std::int64_t step = trainer_.cursor().step;
  if (saved_step_ == step) return;
  const Clock::time_point before = Clock::now();
  world_.comm().note_progress({.doing = "saving a checkpoint"});
  if (!trainer_.weights_are_finite())
    fail_numerics(concat("step ", step, ": the weights are not finite; they were not saved"));
  trainer_.cursor().effective_job = effective_file(prepared_.loaded);
  const SaveReport report = save_checkpoint(directory_.checkpoints(), trainer_.shards(), trainer_.cursor(),
                                            static_cast<int>(prepared_.job.checkpoint.keep), world_.comm());
  saved_step_ = step;
  saved_directory_ = directory_.checkpoints() / checkpoint_name(step);
  last_save_ = Clock::now();
  world_.watchdog().set_last_checkpoint(checkpoint_name(step));
  if (!is_root()) return;
  console_->print(CheckpointLine{.step = step,
                                 .steps = prepared_.job.train.steps,
                                 .name = report.directory.filename().string(),
                                 .num_bytes = report.num_bytes,
                                 .time_s = report.time_s,
                                 .blocking_s = seconds_between(before, Clock::now()),
                                 .is_verified = true});
}

int TrainingRun::finish() {
  const bool is_new = trainer_.cursor().step == 0;  // then there is nothing to lose
  if (!is_new) save();
  const std::vector<SectionTime> sections = section_times();
  const std::vector<OpShare> ops = op_shares();
  const std::uint64_t hash = weights_hash(trainer_.shards(), world_.comm());
  const int exit_code = is_stopped_ ? static_cast<int>(Fault::kStopped) : 0;
  agree(world_.comm(), [&] {
    if (!is_root()) return;
    world_.comm().note_progress({.doing = "writing the final model"});
    if (!is_stopped_) export_final();
    RunSummary summary = summarize(exit_code);
    summary.ops = ops;
    summary.weights_hash = hash;
    write_summary(directory_.summary(), summary);
    if (is_stopped_)
      console_->print(fmt::format(
          "stopped on request at step {}; the same command with --out {} goes on from there (exit {})",
          summary.steps, directory_.path.string(), exit_code));
    else
      print_done(summary, sections);
    console_->print(fmt::format("weights hash {}", hex_text(hash)));
  });
  return exit_code;
}

}  // namespace takt
