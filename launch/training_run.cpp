// TrainingRun: one step after another, and what people and later runs need to know about them.
#include "launch/training_run.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "collectives/share.h"
#include "core/device/cpu_peak.h"
#include "core/device/gpu_peaks.h"
#include "core/device/onednn.h"
#include "core/state/weights_hash.h"
#include "launch/ask_root.h"
#include "launch/resume.h"
#include "launch/start_weights.h"
#include "launch/stop_signal.h"
#include "launch/version.h"

namespace takt {
namespace {

double seconds_between(std::chrono::steady_clock::time_point start,
                       std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - start).count();
}

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

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
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

// Root makes the directory and tells the others its name.
void TrainingRun::open_directory(const RunOptions& options, const CommandContext& context) {
  agree(world_.comm(), [&] {
    stop_if_requested();
    if (!is_root()) return;
    directory_ = options.out
                     ? open_run_directory(*options.out)
                     : create_run_directory("runs", prepared_.job.name, run_timestamp(std::time(nullptr)));
    lock_ = std::make_unique<RunLock>(directory_.path);
    require_resumable(directory_, options.resume);
    describe(context);
    if (world_.num_hosts() > 1) Watchdog::prepare_run_directory(directory_.path.string());
    console_ = std::make_unique<Console>(directory_.path / "console.log");
    if (!lock_->is_held())
      console_->print(concat("warning: the file system of ", directory_.path.string(),
                             " has no locks: nothing keeps a second run out of it"));
  });
  directory_.path = share_text(world_.comm(), directory_.path.string());
  world_.watchdog().set_run_directory(directory_.path.string());
}

void TrainingRun::describe(const CommandContext& context) {
  describe_run(directory_,
               {.job_file = prepared_.loaded.text,
                .effective_job = effective_file(prepared_.loaded),
                .command = joined(context.arguments),
                .environment = {{"takt", version() + " (" + build_summary() + ")"},
                                {"mpi", world_.launcher()},
                                {"onednn", onednn_version() + " " + onednn_isa()},
                                {"ranks", std::to_string(world_.size())},
                                {"hosts", std::to_string(world_.num_hosts())},
                                {"threads_a_rank", std::to_string(prepared_.plan.device.num_threads)}}});
}

// Without a checkpoint of its own a run begins anew, but what an earlier one measured here is not its to
// wipe.
void TrainingRun::keep_earlier_metrics() {
  if (!saved_directory_.empty()) return;
  const std::filesystem::path kept = set_aside(directory_.metrics());
  if (!kept.empty())
    console_->print(
        concat("an earlier run left metrics here but no checkpoint: they are kept in ", kept.string()));
}

// None where the peak is not known.
std::optional<double> TrainingRun::of_peak(double flops_per_s) const {
  if (peak_flops_per_s_ <= 0) return std::nullopt;
  return flops_per_s / peak_flops_per_s_;
}

std::int64_t TrainingRun::units_of(const Dataset& data) const {
  return data.num_samples() * unit_.per_sample;
}

void TrainingRun::print_header() {
  const Job& job = prepared_.job;
  const BatchPlan& batch = prepared_.batch;
  std::uint64_t checkpoint_bytes = 0;
  for (const Value& value : prepared_.plan.programs[prepared_.plan.index_of(kUpdate)].graph.values())
    if (value.role == Role::kParameter || value.role == Role::kState)
      checkpoint_bytes += static_cast<std::uint64_t>(num_elements(value.global_dims)) * 4;
  console_->print(RunHeader{.version = version(),
                            .build = build_summary(),
                            .run_directory = directory_.path.string(),
                            .num_ranks = world_.size(),
                            .num_hosts = world_.num_hosts(),
                            .launcher = world_.launcher(),
                            .backend = prepared_.device == DeviceKind::kCuda
                                           ? "cuda: " + prepared_.gpu.name
                                           : "cpu: oneDNN " + onednn_version() + " " + onednn_isa(),
                            .num_threads = prepared_.plan.device.num_threads,
                            .peak_flops_per_s = peak_flops_per_s_,
                            .peak_is_measured = prepared_.device == DeviceKind::kCpu,
                            .model = prepared_.task->describe(),
                            .num_parameters = trainer_.num_parameters(),
                            .unit = unit_.name,
                            .train_units = units_of(*prepared_.data.train),
                            .valid_units = prepared_.data.valid ? units_of(*prepared_.data.valid) : 0,
                            .mesh = to_string(prepared_.mesh),
                            .batch_units = batch.samples_a_step * unit_.per_sample,
                            .data_ranks = prepared_.mesh.data_ranks(),
                            .accumulated = batch.num_micro_batches,
                            .micro_batch = batch.micro_batch,
                            .units_a_sample = unit_.per_sample,
                            .memory_bytes = prepared_.plan.arena.num_bytes(),
                            .memory_limit_bytes = prepared_.memory_limit_bytes,
                            .checkpoint_bytes = checkpoint_bytes,
                            .checkpoint_steps = job.checkpoint.every_steps,
                            .checkpoint_s = job.checkpoint.every_s,
                            .steps = job.train.steps});
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
    const Clock::time_point before = Clock::now();
    last_ = trainer_.step(*prepared_.data.train, order_);
    const StepTimes times = share_times(last_, seconds_between(before, Clock::now()));
    require_finite(last_);
    last_loss_ = last_.loss;
    report_step(last_, times);
    const std::int64_t step = trainer_.cursor().step;
    // After the last step only a validation is worth interrupting.
    is_stopped_ = times.stop > 0 && (step < job.train.steps || prepared_.data.valid);
    if ((job.eval.every > 0 && step % job.eval.every == 0) || step == job.train.steps) validate();
    if (times.checkpoint_due > 0 || is_stopped_) save();
  }
  if (!is_stopped_) validate();
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

TrainingRun::StepTimes TrainingRun::share_times(const StepResult& result, double step_s) {
  const CheckpointConfig& config = prepared_.job.checkpoint;
  const bool due =
      (config.every_steps > 0 && trainer_.cursor().step % config.every_steps == 0) ||
      (config.every_s > 0 && is_root() && seconds_between(last_save_, Clock::now()) > config.every_s);
  double numbers[] = {step_s, result.collective_s, peak_memory_bytes(), stop_requested() ? 1.0 : 0.0,
                      due ? 1.0 : 0.0};
  world_.comm().all_reduce(numbers, std::size(numbers), DType::kF64, ReduceOp::kMax, {"step times"});
  sums_.forward_backward_s += result.forward_backward_s;
  sums_.update_s += result.update_s;
  sums_.collective_s += result.collective_s;
  sums_.step_s += step_s;
  return {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]};
}

void TrainingRun::report_step(const StepResult& result, const StepTimes& times) {
  if (!is_root()) return;
  const Job& job = prepared_.job;
  const std::int64_t step = trainer_.cursor().step, units = prepared_.batch.samples_a_step * unit_.per_sample;
  const double flops_a_rank = flops_a_step_ / times.step_s / world_.size();
  const auto memory_bytes = static_cast<std::uint64_t>(times.memory_bytes);
  metrics_->write(
      StepMetrics{.step = step,
                  .time_s = seconds_between(start_, Clock::now()),
                  .loss = result.loss,
                  .grad_norm = result.grad_norm,
                  .lr = result.lr,
                  .unit = unit_.name,
                  .units = trainer_.cursor().samples * unit_.per_sample,
                  .step_ms = 1e3 * times.step_s,
                  .units_per_s = static_cast<double>(units) / times.step_s,
                  .tflops_per_rank = flops_a_rank / 1e12,
                  .mfu = of_peak(flops_a_rank),
                  .comm_ms = 1e3 * times.collective_s,
                  .comm_exposed_ms = 1e3 * times.collective_s,  // on CPUs a collective blocks its rank
                  .mem_peak_bytes = memory_bytes});
  if (step != first_step_ + 1 && step % job.log.every != 0 && step != job.train.steps) return;
  const double mean_s = seconds_between(start_, Clock::now()) / static_cast<double>(step - first_step_);
  console_->print(StepLine{.step = step,
                           .steps = job.train.steps,
                           .unit = unit_.name,
                           .loss = result.loss,
                           .grad_norm = result.grad_norm,
                           .lr = result.lr,
                           .step_s = times.step_s,
                           .units_per_s = static_cast<double>(units) / times.step_s,
                           .mfu = of_peak(flops_a_rank),
                           .comm = times.collective_s / times.step_s,
                           .exposed = times.collective_s / times.step_s,
                           .memory_bytes = memory_bytes,
                           .eta_s = mean_s * static_cast<double>(job.train.steps - step)});
}

// All ranks hold the same sums, so all of them see it.
void TrainingRun::require_finite(const StepResult& result) const {
  if (std::isfinite(result.loss) && std::isfinite(result.grad_norm)) return;
  fail_numerics(concat("step ", trainer_.cursor().step, ": loss ", result.loss, ", gradient norm ",
                       result.grad_norm, "; this update was not applied"));
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
  metrics_->write(ValidMetrics{
      .step = validated_step_, .valid_loss = evaluation_->loss, .figures = evaluation_->figures});
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

std::vector<SectionTime> TrainingRun::section_times() {
  const std::int64_t steps = std::max<std::int64_t>(1, trainer_.cursor().step - first_step_);
  const std::array<double, 4> mine = {sums_.forward_backward_s, sums_.update_s, sums_.collective_s,
                                      sums_.step_s};
  std::vector<double> all(mine.size() * static_cast<std::size_t>(world_.size()));
  world_.comm().all_gather(mine.data(), all.data(), mine.size(), DType::kF64, {"section times"});
  std::vector<SectionTime> sections;
  const char* names[] = {"micro-batches", "update", "comm of both"};
  for (std::size_t s = 0; s < std::size(names); ++s) {
    SectionTime section{.name = names[s], .min_s = 1e30};
    double step_s = 0;
    for (std::size_t r = 0; r < static_cast<std::size_t>(world_.size()); ++r) {
      const double time_s = all[r * mine.size() + s] / static_cast<double>(steps);
      section.min_s = std::min(section.min_s, time_s);
      section.max_s = std::max(section.max_s, time_s);
      section.average_s += time_s / world_.size();
      step_s += all[r * mine.size() + 3] / static_cast<double>(steps) / world_.size();
    }
    section.share = step_s > 0 ? section.average_s / step_s : 0;
    sections.push_back(section);
  }
  return sections;
}

int TrainingRun::finish() {
  const bool is_new = trainer_.cursor().step == 0;  // then there is nothing to lose
  if (!is_new) save();
  const std::vector<SectionTime> sections = section_times();
  const std::uint64_t hash = weights_hash(trainer_.shards(), world_.comm());
  const int exit_code = is_stopped_ ? static_cast<int>(Fault::kStopped) : 0;
  agree(world_.comm(), [&] {
    if (!is_root()) return;
    world_.comm().note_progress({.doing = "writing the final model"});
    if (!is_stopped_) export_final();
    RunSummary summary = summarize(exit_code);
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

RunSummary TrainingRun::summarize(int exit_code) const {
  const std::int64_t steps = trainer_.cursor().step;
  const auto trained =
      static_cast<double>((steps - first_step_) * prepared_.batch.samples_a_step * unit_.per_sample);
  RunSummary summary{.name = prepared_.job.name,
                     .steps = steps,
                     .unit = unit_.name,
                     .units = trainer_.cursor().samples * unit_.per_sample,
                     .time_s = seconds_between(start_, Clock::now()),
                     .loss = last_loss_};
  if (evaluation_) {
    summary.valid_loss = evaluation_->loss;
    summary.valid_figures = evaluation_->figures;
  }
  summary.units_per_s = sums_.step_s > 0 ? trained / sums_.step_s : 0;
  summary.ranks = world_.size();
  summary.mesh = to_string(prepared_.mesh);
  summary.exit = exit_code;
  return summary;
}

void TrainingRun::print_done(const RunSummary& summary, const std::vector<SectionTime>& sections) {
  const auto units_a_step = static_cast<double>(prepared_.batch.samples_a_step * unit_.per_sample);
  if (trainer_.cursor().step == first_step_) {  // a speed of no steps is no speed
    console_->print(DoneLine{.steps = summary.steps,
                             .unit = summary.unit,
                             .num_units = summary.units,
                             .time_s = summary.time_s,
                             .loss = summary.loss,
                             .valid_loss = summary.valid_loss});
    return;
  }
  console_->print(DoneLine{.steps = summary.steps,
                           .unit = summary.unit,
                           .num_units = summary.units,
                           .time_s = summary.time_s,
                           .loss = summary.loss,
                           .valid_loss = summary.valid_loss,
                           .units_per_s = summary.units_per_s,
                           .mfu = of_peak(summary.units_per_s / units_a_step * flops_a_step_ / world_.size()),
                           .sections = sections});
  for (const auto& [name, number] : summary.valid_figures)
    console_->print(fmt::format("validation {:.5g} {}", number, words_of(name)));
}

// What other software reads: the weights, and what the task says belongs to them.
void TrainingRun::export_final() {
  const std::filesystem::path final_model = directory_.final_model();
  std::filesystem::create_directories(final_model);
  export_model(saved_directory_, trainer_.exported(), final_model / "model.safetensors");
  prepared_.task->write_model_files(final_model);
  write_file_atomically(final_model / "effective.toml", effective_file(prepared_.loaded));
}

}  // namespace takt
