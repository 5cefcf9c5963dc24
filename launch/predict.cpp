// takt predict: applies a trained model of arrays to new inputs. One process.
#include <CLI/App.hpp>
#include <iostream>

#include "core/train/predictor.h"
#include "launch/cpu_threads.h"
#include "launch/exported_model.h"
#include "launch/registry.h"

namespace takt {
namespace {

struct PredictOptions {
  std::string run_directory;
  std::string inputs;
  std::string out;
  std::int64_t batch = 256;
};

void add_options(CLI::App& app, PredictOptions& options) {
  app.add_option("RUN", options.run_directory, "A run directory with a finished run's final/")->required();
  app.add_option("--inputs", options.inputs, "The inputs, a .npy file with a row for every sample")
      ->required();
  app.add_option("--out", options.out, "Where the predictions go, a .npy file of the same rows")->required();
  app.add_option("--batch", options.batch, "Samples computed at once")
      ->capture_default_str()
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
}

int run(const PredictOptions& options, const CommandContext&) {
  const ExportedModel model = open_exported(options.run_directory);
  const std::unique_ptr<Dataset> inputs = model.task->open_inputs(options.inputs);
  Predictor predictor(*model.task, std::min(options.batch, inputs->num_samples()),
                      cpu_threads(model.job.threads, 1));
  predictor.import_weights(model.folder);
  model.task->write_predictions(options.out, predictor.run_all(*inputs));
  std::cout << "predicted " << inputs->num_samples() << " samples of " << options.inputs << " into "
            << options.out << std::endl;
  return 0;
}

}  // namespace

Command predict_command() {
  return {.name = "predict",
          .summary = "Apply a trained model of arrays to new inputs",
          .prepare = with_options<PredictOptions>(add_options, run)};
}

}  // namespace takt
