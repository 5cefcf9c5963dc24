// What a TrainingRun tells people and later runs about its steps: console lines, metrics, the summary.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/device/onednn.h"
#include "launch/training_run.h"
#include "launch/version.h"

namespace takt {

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

void TrainingRun::report_step(const StepResult& result, const StepTimes& times) {
  if (!is_root()) return;
  const Job& job = prepared_.job;
  const std::int64_t step = result.step, units = prepared_.batch.samples_a_step * unit_.per_sample;
  const auto measured = [&](double number) { return result.sections ? std::optional(number) : std::nullopt; };
  const double flops_a_rank = flops_a_step_ / times.step_s / world_.size();
  const auto memory_bytes = static_cast<std::uint64_t>(times.memory_bytes);
  metrics_->write(StepMetrics{.step = step,
                              .time_s = seconds_between(start_, Clock::now()),
                              .loss = result.loss,
                              .grad_norm = result.grad_norm,
                              .lr = result.lr,
                              .unit = unit_.name,
                              .units = result.samples * unit_.per_sample,
                              .step_ms = 1e3 * times.step_s,
                              .units_per_s = static_cast<double>(units) / times.step_s,
                              .tflops_per_rank = flops_a_rank / 1e12,
                              .mfu = of_peak(flops_a_rank),
                              .comm_ms = measured(1e3 * times.collective_s),
                              .comm_exposed_ms = measured(1e3 * times.exposed_s),
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
                           .comm = measured(times.collective_s / times.step_s),
                           .exposed = measured(times.exposed_s / times.step_s),
                           .memory_bytes = memory_bytes,
                           .eta_s = mean_s * static_cast<double>(job.train.steps - step)});
}

std::vector<SectionTime> TrainingRun::section_times() {
  const std::int64_t steps = std::max<std::int64_t>(1, trainer_.cursor().step - first_step_);
  const std::array<double, 4> mine = {sums_.forward_backward_s, sums_.update_s, sums_.collective_s,
                                      sums_.step_s};
  std::vector<double> all(mine.size() * static_cast<std::size_t>(world_.size()));
  world_.comm().all_gather(mine.data(), all.data(), mine.size(), DType::kF64, {"section times"});
  std::vector<SectionTime> sections;
  if (!are_sections_known_) return sections;
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

// Ranks run the same programs, and so have the same ops.
std::vector<OpShare> TrainingRun::op_shares() {
  const auto steps = static_cast<double>(std::max<std::int64_t>(1, trainer_.cursor().step - first_step_));
  std::vector<double> sums = {sums_.step_s};
  for (const auto& [name, time] : trainer_.op_times()) sums.push_back(time.time_s);
  world_.comm().all_reduce(sums.data(), sums.size(), DType::kF64, ReduceOp::kSum, {"op times"});
  std::vector<OpShare> shares;
  for (const auto& [name, time] : trainer_.op_times()) {
    const double sum_s = sums[shares.size() + 1];
    shares.push_back({.op = name,
                      .num_calls = static_cast<double>(time.num_calls) / steps,
                      .time_s = sum_s / steps / world_.size(),
                      .share = sum_s / sums[0]});
  }
  std::stable_sort(shares.begin(), shares.end(),
                   [](const OpShare& a, const OpShare& b) { return a.time_s > b.time_s; });
  return shares;
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
                     .loss = last_loss_,
                     .skipped_steps = num_skipped_};
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
                           .sections = sections,
                           .ops = summary.ops});
  for (const auto& [name, number] : summary.valid_figures)
    console_->print(fmt::format("validation {:.5g} {}", number, words_of(name)));
}

}  // namespace takt
