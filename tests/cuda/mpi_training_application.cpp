// Trainings on GPUs whose ranks are processes, started by mpirun, are those on CPUs. Exits 0 if all are.
#include <cstdio>
#include <string>

#include "collectives/bootstrap.h"
#include "tests/cuda/training_cases.h"
#include "tests/emulated/control.h"

namespace takt {
namespace {

void train_as_on_cpus(World& world, const SmallModel& model, const Layout& layout) {
  const SmallTraining training = training_of(layout);
  const Trained found = SmallRun(model, training, DeviceKind::kCuda).on_rank(world.comm());
  const Trained wanted = SmallRun(model, training, DeviceKind::kCpu).on_rank(world.comm());
  if (const auto differs = difference(found, wanted, closeness(layout.precision)))
    fail(Fault::kBug, model.name, ", ", layout.name(), ": ", *differs);
  if (const std::string found_wrong = emulated::all_diagnoses(); !found_wrong.empty())
    fail(Fault::kBug, model.name, ", ", layout.name(), ": ", found_wrong);
}

}  // namespace
}  // namespace takt

int main(int argc, char** argv) {
  using namespace takt;
  const std::unique_ptr<World> world = World::start(argc, argv);
  // The emulated device knows what waits for an operation in its own process; for the others it runs what it holds after a while.
  emulated::Settings settings = emulated::settings();
  settings.hold_ms = 1;
  emulated::configure(settings);
  try {
    for (const SmallModel& model : trained_models())
      for (const Layout& layout : layouts())
        if (layout.num_ranks() == world->size()) train_as_on_cpus(*world, model, layout);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: rank %d: %s\n", world->rank(), error.what());
    world->abort(1);
  }
  return 0;
}
