// takt train: prepares the run on every rank, then trains.
#include <CLI/App.hpp>
#include <iostream>

#include "launch/registry.h"
#include "launch/stop_signal.h"
#include "launch/training_run.h"

namespace takt {
namespace {

int run(const RunOptions& options, const CommandContext& context) {
  catch_stop_signals();
  const PreparedRun prepared = prepare_run(options, context.environment, *context.world);
  if (options.dry_run) {
    if (context.world->rank() == 0) std::cout << effective_file(prepared.loaded) << std::flush;
    return 0;
  }
  return TrainingRun(prepared, options, context).run();
}

}  // namespace

Command train_command() {
  return {.name = "train",
          .summary = "Train a model",
          .prepare = with_options<RunOptions>(add_run_options, run),
          .needs_ranks = true};
}

}  // namespace takt
