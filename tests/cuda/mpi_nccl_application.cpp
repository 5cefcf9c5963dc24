// The nccl backend as a run has it: one process a rank, started by mpirun, MPI as the channel that carries ids and compares
// calls, communicators outside the try block. Exits 0 if all went well.
#include <cstdio>
#include <vector>

#include "collectives/bootstrap.h"
#include "collectives/nccl.h"
#include "collectives/registry.h"
#include "core/device/cuda/stream.h"
#include "tests/emulated/control.h"
#include "tests/emulated/nccl_ranks.h"

namespace takt::emulated {
namespace {

void require(bool holds, const char* what) {
  if (!holds) fail(Fault::kBug, what);
}

void use(World& world, DeviceCommunicator& comm) {
  constexpr std::size_t kNum = 400'000;
  const CudaStream stream;
  const CallSite at{.value = "grad", .stream = stream.get()};
  const int num_ranks = world.size();
  const Buffer<float> buffer(std::vector<float>(kNum, static_cast<float>(world.rank() + 1)));
  const auto group = split_device(comm, 0, "data[0]");
  group->all_reduce(buffer.data(), kNum, DType::kF32, ReduceOp::kSum, at);
  group->wait(stream.get());
  require(buffer.get()[kNum - 1] == static_cast<float>(num_ranks * (num_ranks + 1) / 2), "all_reduce");
  const Buffer<int> mine(std::vector<int>{world.rank()}), theirs(1);
  comm.launch_together([&] {
    comm.send(mine.data(), 1, DType::kI32, (world.rank() + 1) % num_ranks, at);
    comm.receive(theirs.data(), 1, DType::kI32, (world.rank() + num_ranks - 1) % num_ranks, at);
  });
  comm.wait(stream.get());
  require(theirs.get()[0] == (world.rank() + num_ranks - 1) % num_ranks, "send and receive");
  comm.compare_calls();
  group->compare_calls();
}

}  // namespace
}  // namespace takt::emulated

int main(int argc, char** argv) {
  using namespace takt;
  const std::unique_ptr<World> world = World::start(argc, argv);
  std::unique_ptr<DeviceCommunicator> comm;
  CallLog log;
  try {
    emulated::make_devices(world->ranks_on_host());
    TAKT_CUDA(cudaSetDevice(world->local_rank()));
    comm = make_nccl_communicator({world->comm(), log});
    emulated::use(*world, *comm);
    emulated::require(emulated::all_diagnoses().empty(), emulated::all_diagnoses().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: rank %d: %s\n", world->rank(), error.what());
    if (comm != nullptr) comm->abandon();
    world->abort(1);
  }
  return 0;
}
