// One line a backend, in alphabetical order. What is compiled in is known here and nowhere else.
#include "collectives/registry.h"

#include <array>
#include <string>

#include "collectives/local.h"
#include "collectives/mpi.h"
#include "collectives/nccl.h"
#include "core/base/error.h"

namespace takt {
namespace {

#ifdef TAKT_HAVE_CUDA
constexpr auto make_nccl_if_built = make_nccl;
#else
constexpr decltype(CollectiveBackend::make) make_nccl_if_built = nullptr;
#endif

constexpr std::array kBackends = {
    CollectiveBackend{"local", "ranks are threads of one process", "", make_local},
    CollectiveBackend{"mpi", "ranks are processes on CPUs: shared memory in a host, MPI between hosts", "",
                      make_mpi},
    CollectiveBackend{"nccl", "ranks are GPUs: calls are queued on CUDA streams, and hosts meet through mpi",
                      "TAKT_CUDA", make_nccl_if_built},
};

}  // namespace

std::span<const CollectiveBackend> collective_backends() {
  return kBackends;
}

const CollectiveBackend& find_collective_backend(std::string_view name) {
  std::string known;
  for (const CollectiveBackend& backend : kBackends) {
    if (backend.name == name) return backend;
    known += concat(known.empty() ? "" : ", ", backend.name);
  }
  fail(Fault::kConfig, "collectives: there is no backend '", name, "', wanted one of ", known);
}

std::unique_ptr<Communicator> make_communicator(std::string_view name, const BackendRanks& ranks) {
  const CollectiveBackend& backend = find_collective_backend(name);
  TAKT_REQUIRE(backend.compiled_in(), "collectives: backend '", name,
               "' is not in this build\n  configure with -D", backend.build_option, "=ON and build again");
  return backend.make(ranks);
}

}  // namespace takt
