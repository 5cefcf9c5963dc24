// TrainingRun: the loop over steps with everything that happens around it: console, metrics, validation,
// checkpoints.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/state/metrics.h"
#include "core/state/run_directory.h"
#include "core/state/run_lock.h"
#include "core/train/trainer.h"
#include "launch/command.h"
#include "launch/console.h"
#include "launch/prepare_run.h"

namespace takt {

// Every rank makes one and makes the same calls; rank 0 alone prints and writes. All arguments are borrowed.
class TrainingRun {
 public:
  TrainingRun(const PreparedRun& prepared, const RunOptions& options, const CommandContext& context);

  // Trains to the last step, or until a stop is asked for. Returns the exit code: 0, or 75 after a stop on
  // purpose. Throws kNumerics if a loss or gradient is not finite; the weights are then those of the step
  // before.
  int run();

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_between(Clock::time_point start, Clock::time_point end) {
    return std::chrono::duration<double>(end - start).count();
  }

  // What ranks tell each other after every step: the largest of each.
  struct StepTimes {
    double step_s = 0, collective_s = 0, exposed_s = 0, memory_bytes = 0, stop = 0, checkpoint_due = 0;
  };
  struct SectionSums {
    double forward_backward_s = 0, update_s = 0, collective_s = 0, exposed_s = 0, step_s = 0;
  };
  // What a step's end has shown to be due, the same on all ranks.
  struct Wishes {
    bool stop = false, checkpoint = false;
  };

  bool is_root() const { return world_.rank() == 0; }
  bool is_finished() const;
  bool owes_validation() const;
  bool share_stop();
  StepTimes share_times(const StepResult& result);
  // Steps to leave unfinished while the host looks at what is done.
  int num_ahead() const { return prepared_.job.guard.nan == "skip" ? 0 : trainer_.num_ahead(); }
  // Is the step to be passed over? Throws kNumerics where it ends the run.
  bool is_skipped(const StepResult& result);
  [[noreturn]] void fail_numerics(const std::string& what) const;
  void train();
  bool is_due(std::int64_t every_steps) const;
  // Reports steps, oldest first, until only `num_left` are unfinished.
  void report_finished(int num_left, Wishes& wishes);
  void validate();
  void save();
  int finish();

  // ---- training_run_directory.cpp ----

  void open_directory(const RunOptions& options, const CommandContext& context);
  void describe(const CommandContext& context);
  void keep_earlier_metrics();
  void export_final();

  // ---- training_run_report.cpp ----

  std::optional<double> of_peak(double flops_per_s) const;
  std::int64_t units_of(const Dataset& data) const;
  void print_header();
  void report_step(const StepResult& result, const StepTimes& times);
  std::vector<SectionTime> section_times();
  std::vector<OpShare> op_shares();
  RunSummary summarize(int exit_code) const;
  void print_done(const RunSummary& summary, const std::vector<SectionTime>& sections);

  const PreparedRun& prepared_;
  World& world_;
  double peak_flops_per_s_ = 0;  // of a rank: measured, or a GPU's by its data sheet; 0: not known
  Trainer trainer_;
  DataOrder order_;
  Unit unit_;
  double flops_a_step_ = 0;  // matrix products and attention, forward and backward, once, over all ranks
  RunDirectory directory_;
  std::unique_ptr<RunLock> lock_;           // root only
  std::unique_ptr<Console> console_;        // root only
  std::unique_ptr<MetricsWriter> metrics_;  // root only
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_save_ = Clock::now();
  std::int64_t first_step_ = 0;  // steps done before this process started
  std::int64_t saved_step_ = -1;
  std::filesystem::path saved_directory_;  // of saved_step_; empty: none yet
  std::int64_t validated_step_ = -1;
  std::int64_t num_skipped_ = 0, num_skipped_in_row_ = 0;
  std::optional<double> last_loss_;  // of the last step, also of an earlier process; none: not known
  std::optional<Evaluation> evaluation_;
  SectionSums sums_;
  bool are_sections_known_ = false;  // of the steps so far; the same on all ranks
  bool is_stopped_ = false;          // on request, before the run was done; the same on all ranks
};

}  // namespace takt
