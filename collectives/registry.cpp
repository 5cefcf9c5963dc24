// One line a backend, in alphabetical order. What is compiled in is known here and nowhere else.
#include "collectives/registry.h"

#include <array>

namespace takt {
namespace {

constexpr std::array kBackends = {
    CollectiveBackend{"local", true, "ranks are threads of one process"},
    CollectiveBackend{"mpi", true, "ranks are processes on CPUs: shared memory in a host, MPI between hosts"},
    CollectiveBackend{"nccl", false, "ranks are GPUs; its place is here, it is not written yet"},
};

}  // namespace

std::span<const CollectiveBackend> collective_backends() {
  return kBackends;
}

}  // namespace takt
