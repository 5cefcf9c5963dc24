// An application that trains and predicts with Takt: it owns MPI, knows no job file, and takes what it needs from the
// installed headers. Every rank trains; rank 0 predicts with what was trained.
#include <mpi.h>

#include <cmath>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>

#include "collectives/bootstrap.h"
#include "core/train/predictor.h"
#include "core/train/trainer.h"
#include "pump.h"

namespace {

constexpr double kMostError = 0.03;  // of an efficiency

// Trains on all ranks, each with its share of every batch; the model lies in `folder` then.
void train(takt::World& world, const std::filesystem::path& folder) {
  const pump::Efficiency task;
  const pump::Readings readings(4096, 1), held_out(512, 2);
  takt::StepConfig config{.global_batch = 128, .steps = 2000, .seed = 7};
  config.optimizer.lr = 3e-3;
  config.optimizer.schedule = {.kind = "cosine", .warmup = 20};

  const takt::Mesh mesh{{{.name = "data", .size = world.size()}}};
  const takt::StepPlan plan = takt::compile_step(task, config, mesh, 1);
  takt::Trainer trainer(task, config, plan, world.comm());
  trainer.initialize_weights();
  const takt::DataOrder order(config.seed, readings.num_samples());
  for (std::int64_t step = 0; step < config.steps; ++step) trainer.step(readings, order);
  const double loss = trainer.evaluate(held_out).loss;

  const takt::SaveReport saved =
      takt::save_checkpoint(folder, trainer.shards(), trainer.cursor(), 2, world.comm());
  if (world.rank() != 0) return;
  takt::export_model(saved.directory, trainer.exported(), folder / "model.safetensors");
  std::cout << "trained on " << world.size() << " ranks, " << trainer.num_parameters()
            << " parameters; root mean square error " << std::sqrt(loss) << '\n';
}

// The largest error over points that training has not seen.
double largest_error(const std::filesystem::path& folder) {
  const pump::Efficiency task;
  const pump::Readings points(100, 3);
  takt::Predictor predictor(task, 25, 1);
  predictor.import_weights(folder / "model.safetensors");
  const std::vector<float> found = predictor.run_all(points);
  double largest = 0;
  for (std::int64_t i = 0; i < points.num_samples(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(found[static_cast<std::size_t>(i)]) -
                                         pump::efficiency(points.flow(i), points.speed(i))));
  return largest;
}

int run(takt::World& world, const std::filesystem::path& folder) {
  train(world, folder);
  if (world.rank() != 0) return 0;
  const double error = largest_error(folder);
  std::cout << "predicted 100 points; largest error " << error << " of an efficiency\n";
  return error < kMostError ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: pump FOLDER\n";
    return 64;
  }
  MPI_Init(&argc, &argv);
  int exit_code = 1;
  {
    const std::unique_ptr<takt::World> world = takt::World::start();
    try {
      exit_code = run(*world, argv[1]);
    } catch (const std::exception& error) {
      std::cerr << "error: rank " << world->rank() << ": " << error.what() << '\n';
      world->abort(1);  // the others may wait for this rank
    }
  }
  MPI_Finalize();
  return exit_code;
}
