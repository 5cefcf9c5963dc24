// takt version. The build passes TAKT_VERSION and TAKT_GIT to this file alone, so that a commit recompiles one file.
#include "launch/version.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>

#include "collectives/bootstrap.h"
#include "collectives/registry.h"
#include "core/device/onednn.h"
#include "launch/command.h"
#include "launch/registry.h"

namespace takt {
namespace {

struct NoOptions {};

void add_options(CLI::App&, NoOptions&) {}

bool has_backend(std::string_view name) {
  return std::ranges::any_of(collective_backends(), [name](const CollectiveBackend& backend) {
    return backend.name == name && backend.compiled_in();
  });
}

int run(const NoOptions&, const CommandContext&) {
  std::cout << fmt::format("takt {} ({})\n{}\n\ncollectives\n", version(), build_summary(),
                           mpi_library_name());
  for (const CollectiveBackend& backend : collective_backends())
    std::cout << fmt::format("  {:<8} {:<14} {}\n", backend.name,
                             backend.compiled_in() ? "yes" : "not built in", backend.summary);
  std::cout << fmt::format("executors\n  {:<8} oneDNN {}, {}\n  {:<8} {}\n", "cpu", onednn_version(),
                           onednn_isa(), "cuda",
                           has_backend("nccl")
                               ? "yes"
                               : "not built in   not written yet; -DTAKT_CUDA=ON only finds the toolkit")
            << std::flush;
  return 0;
}

}  // namespace

std::string version() {
  return TAKT_VERSION;
}

// The CUDA executor and NCCL are built together.
std::string build_summary() {
  return fmt::format("cpu{}, git {}", has_backend("nccl") ? "+cuda" : "", TAKT_GIT);
}

Command version_command() {
  return {.name = "version",
          .summary = "Show the version and what is compiled in",
          .prepare = with_options<NoOptions>(add_options, run)};
}

}  // namespace takt
