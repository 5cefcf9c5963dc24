// TrainingRun's directory: how it begins, what it says of the run, and the final model in it.
#include <ctime>

#include "collectives/share.h"
#include "core/device/onednn.h"
#include "launch/start_weights.h"
#include "launch/stop_signal.h"
#include "launch/training_run.h"
#include "launch/version.h"

namespace takt {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

}  // namespace

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

// What other software reads: the weights, and what the task says belongs to them.
void TrainingRun::export_final() {
  const std::filesystem::path final_model = directory_.final_model();
  std::filesystem::create_directories(final_model);
  export_model(saved_directory_, trainer_.exported(), final_model / "model.safetensors");
  prepared_.task->write_model_files(final_model);
  write_file_atomically(final_model / "effective.toml", effective_file(prepared_.loaded));
}

}  // namespace takt
