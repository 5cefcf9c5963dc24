// takt: reads the command line, starts the ranks if the command needs them, runs it, and turns errors into
// one message and an exit code. The only place that catches, prints errors and reads the environment for commands.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "collectives/bootstrap.h"
#include "core/base/error.h"
#include "launch/command_line.h"
#include "launch/registry.h"

namespace takt {
namespace {

// This process's rank as its launcher says it, before MPI is there to ask; 0 without a launcher.
int launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* rank = std::getenv(name)) return std::atoi(rank);
  return 0;
}

std::vector<std::string> environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry; ++entry) entries.emplace_back(*entry);
  return entries;
}

void print_error(const std::string& message) {
  std::cerr << "error: " + message + '\n' << std::flush;
}

// To stop on purpose is no error.
void print_agreed(const Error& error) {
  if (error.fault() != Fault::kStopped) return print_error(error.what());
  std::cerr << std::string(error.what()) + '\n' << std::flush;
}

// An error that every rank holds is rank 0's to tell. A rank that fails alone ends the others, which may be
// waiting for it in a call.
int report(World* world, const Error& error) {
  if (!world) {
    if (launched_rank() == 0) print_error(error.what());
    // All processes have the same command line. Were another one to fail first, mpirun would end rank 0 unheard.
    return launched_rank() != 0 && error.fault() == Fault::kUsage ? 0 : error.exit_code();
  }
  if (error.agreed() || world->size() == 1) {
    if (world->rank() == 0) print_agreed(error);
    return error.exit_code();
  }
  print_error(concat("rank ", world->rank(), " (", world->host(), "): ", error.what()));
  world->abort(error.exit_code());
}

int run(int argc, char** argv) {
  std::unique_ptr<World> world;  // outside the try block: its end waits for the other ranks
  try {
    const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
    const CommandLine line = parse_command_line(all_commands(), words);
    // Without the need for ranks one process is the whole run; the others a launcher may have started have no part.
    if (!line.needs_ranks && launched_rank() != 0) return 0;
    if (!line.invocation) {
      (line.exit_code == 0 ? std::cout : std::cerr) << line.help << std::flush;
      return line.exit_code;
    }
    if (line.needs_ranks) world = World::start(argc, argv);
    return line.invocation->run(
        {.world = world.get(), .arguments = {argv, argv + argc}, .environment = environment()});
  } catch (const Error& error) {
    return report(world.get(), error);
  } catch (const std::bad_alloc&) {
    return report(world.get(), Error(Fault::kMemory, "the host has no memory left"));
  } catch (const std::exception& error) {
    return report(world.get(), Error(Fault::kBug, concat("an error nobody expected: ", error.what())));
  }
}

}  // namespace
}  // namespace takt

int main(int argc, char** argv) {
  return takt::run(argc, argv);
}
