// takt version. The build passes TAKT_VERSION and TAKT_GIT to this file alone, so that a commit recompiles one file.
#include "launch/version.h"

#include <fmt/format.h>

#include <iostream>

#include "collectives/bootstrap.h"
#include "collectives/registry.h"
#include "core/base/units.h"
#include "core/device/cuda_support.h"
#include "core/device/onednn.h"
#include "launch/command.h"
#include "launch/registry.h"

namespace takt {
namespace {

struct NoOptions {};

void add_options(CLI::App&, NoOptions&) {}

std::string describe(const GpuInfo& gpu) {
  return fmt::format("    gpu {:<4} {}, {}, compute capability {}.{}\n", gpu.ordinal, gpu.name,
                     format_gib(gpu.memory_bytes), gpu.compute_capability / 10, gpu.compute_capability % 10);
}

std::string describe(const LibraryVersion& version) {
  return version.compiled.empty() ? fmt::format("    {:<8} {}\n", version.library, version.found)
                                  : fmt::format("    {:<8} built with {}, found {}\n", version.library,
                                                version.compiled, version.found);
}

void print_executors() {
  std::cout << fmt::format("executors\n  {:<8} oneDNN {}, {}\n", "cpu", onednn_version(), onednn_isa());
  const CudaSupport cuda = find_cuda();
  std::cout << fmt::format("  {:<8} {}\n", "cuda", cuda.problem.empty() ? "GPUs are found" : cuda.problem);
  for (const LibraryVersion& version : versions_of_cuda()) std::cout << describe(version);
  for (const GpuInfo& gpu : cuda.gpus) std::cout << describe(gpu);
}

int run(const NoOptions&, const CommandContext&) {
  std::cout << fmt::format("takt {} ({})\n{}\n\ncollectives\n", version(), build_summary(),
                           mpi_library_name());
  for (const CollectiveBackend& backend : collective_backends())
    std::cout << fmt::format("  {:<8} {:<14} {}\n", backend.name,
                             backend.compiled_in() ? "yes" : "not built in", backend.summary);
  print_executors();
  std::cout << std::flush;
  return 0;
}

}  // namespace

std::string version() {
  return TAKT_VERSION;
}

std::string build_summary() {
  return fmt::format("cpu{}, git {}", is_cuda_built_in() ? "+cuda" : "", TAKT_GIT);
}

Command version_command() {
  return {.name = "version",
          .summary = "Show the version and what is compiled in",
          .prepare = with_options<NoOptions>(add_options, run)};
}

}  // namespace takt
