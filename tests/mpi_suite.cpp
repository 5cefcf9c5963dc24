// The contract on processes. Run under mpirun: `mpirun -np 4 --oversubscribe mpi_suite`. All ranks run the
// same tests in the same order; a failure on any rank makes its process, and so mpirun, fail.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "collectives/bootstrap.h"
#include "collectives/mpi.h"
#include "collectives/mpi_call.h"
#include "collectives/registry.h"
#include "tests/communicator_contract.h"

namespace {
std::atomic<long> num_allocations = 0;
}

// Not inlined: else the compiler sees free() on memory from a `new` and warns.
[[gnu::noinline]] void* operator new(std::size_t num_bytes) {
  ++num_allocations;
  if (void* memory = std::malloc(num_bytes == 0 ? 1 : num_bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace takt {
namespace {

struct Variant {
  const char* name;
  MpiOptions options;
};

// Small slots, so that even the contract's small buffers pass in many pieces.
const Variant kVariants[] = {
    {"SharedMemory", {}},
    {"SharedMemorySmallSlots", {.slot_bytes = 512}},
    {"HostsOfOne", {.pretended_host = [](int rank) { return rank; }}},
    {"HostsOfOneSmallSlots", {.scratch_bytes = 512, .pretended_host = [](int rank) { return rank; }}},
    {"HostsOfTwo", {.pretended_host = [](int rank) { return rank / 2; }}},
    {"HostsOfTwoSmallSlots", {.scratch_bytes = 512, .pretended_host = [](int rank) { return rank / 2; }}},
    {"HostsOfThree", {.pretended_host = [](int rank) { return rank / 3; }}},
    {"TwoHostsInTurn", {.scratch_bytes = 2048, .pretended_host = [](int rank) { return rank % 2; }}},
    {"HostsOfOneAndTheRest",
     {.scratch_bytes = 2048, .pretended_host = [](int rank) { return rank == 1 ? 1 : 0; }}},
};

// The groups are freed after the communicator.
struct Ranks {
  explicit Ranks(const MpiOptions& options) : comm(make_mpi_communicator(groups, log, options)) {}
  CallLog log;
  MpiGroups groups;
  std::unique_ptr<Communicator> comm;
};

class MpiContract : public testing::TestWithParam<std::tuple<Variant, contract::Check>> {};

TEST_P(MpiContract, Holds) {
  Ranks ranks(std::get<0>(GetParam()).options);
  std::get<1>(GetParam()).run(*ranks.comm);
}

INSTANTIATE_TEST_SUITE_P(Mpi, MpiContract,
                         testing::Combine(testing::ValuesIn(kVariants), testing::ValuesIn(contract::kChecks)),
                         [](const auto& chosen) {
                           return concat(std::get<0>(chosen.param).name, std::get<1>(chosen.param).name);
                         });

class MpiVariant : public testing::TestWithParam<Variant> {};

void call_everything(Communicator& comm, std::vector<float>& a, std::vector<float>& b, std::size_t num) {
  const CallSite at{.value = "layers.17.mlp.down.weight.grad"};
  comm.all_reduce(a.data(), num, DType::kF32, ReduceOp::kMax, at);
  comm.all_gather(a.data(), b.data(), num, DType::kF32, at);
  comm.reduce_scatter(b.data(), a.data(), num, DType::kF32, ReduceOp::kSum, at);
  comm.all_to_all(b.data(), a.data(), num, DType::kF32, at);
  comm.broadcast(a.data(), num, DType::kF32, comm.size() - 1, at);
  if (comm.size() > 1 && comm.rank() == 0) comm.send(a.data(), num, DType::kF32, 1, at);
  if (comm.rank() == 1) comm.receive(a.data(), num, DType::kF32, 0, at);
  comm.barrier(at);
}

TEST_P(MpiVariant, CallsDoNotAllocate) {
  Ranks ranks(GetParam().options);
  constexpr std::size_t kNum = 100'000;
  std::vector<float> a(kNum * static_cast<std::size_t>(ranks.comm->size()), 1.0f);
  std::vector<float> b = a;
  const long before = num_allocations;
  call_everything(*ranks.comm, a, b, kNum);
  EXPECT_EQ(num_allocations - before, 0);
}

TEST_P(MpiVariant, ResultsAreTheBitsOfTheOtherVariants) {
  constexpr std::size_t kNum = 70'001;
  Ranks ranks(GetParam().options);
  std::vector<float> buffer = contract::elements<float>(ranks.comm->rank(), kNum);
  ranks.comm->all_reduce(buffer.data(), kNum, DType::kF32, ReduceOp::kSum, {.value = "grad"});
  for (std::size_t i = 0; i < kNum; ++i)
    ASSERT_EQ(buffer[i], contract::reduced<float>(ranks.comm->size(), i, ReduceOp::kSum));
}

INSTANTIATE_TEST_SUITE_P(Mpi, MpiVariant, testing::ValuesIn(kVariants),
                         [](const auto& chosen) { return std::string(chosen.param.name); });

World* world = nullptr;

TEST(MpiExchange, NamesTheRankThatDoesNotCome) {
  if (world->size() < 2) GTEST_SKIP() << "needs two ranks";
  Ranks ranks({.pretended_host = [](int rank) { return rank; }});
  ranks.groups.peer_timeout_s = 0.2;
  if (world->rank() == 0) {
    const Error error = contract::error_of([&] { ranks.comm->barrier({.value = "never"}); });
    EXPECT_EQ(error.fault(), Fault::kPeer);
    EXPECT_TRUE(contract::contains(error.what(), concat("no answer from rank 1 (", world->host(), ")")))
        << error.what();
    EXPECT_TRUE(contract::contains(error.what(), "barrier 'never' #0 in group world")) << error.what();
  }
  world->comm().barrier({.value = "the others did not call"});
}

TEST(MpiBackend, IsMadeFromTheRegistry) {
  CallLog log;
  const BackendRanks ranks{.control = world->comm(), .log = log};
  for (const contract::Check& check : contract::kChecks) check.run(*make_communicator("mpi", ranks));
  const Error error = contract::error_of([&] { make_communicator("local", ranks); });
  EXPECT_EQ(error.fault(), Fault::kConfig);
}

TEST(MpiComm, IsEmptyAfterAMove) {
  MPI_Comm comm = MPI_COMM_NULL;
  ASSERT_EQ(MPI_Comm_dup(MPI_COMM_SELF, &comm), MPI_SUCCESS);
  MpiComm first(comm);
  MpiComm second(std::move(first));
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_EQ(second.get(), comm);
  second = MpiComm();
  EXPECT_FALSE(second);
}

TEST(MpiCall, AnErrorCarriesMpisOwnWords) {
  const Error error = contract::error_of([] {
    int size = 0;
    TAKT_MPI(MPI_Comm_size(MPI_COMM_NULL, &size));
  });
  EXPECT_EQ(error.fault(), Fault::kPeer);
  EXPECT_TRUE(contract::contains(error.what(), "MPI_Comm_size: MPI_ERR_COMM")) << error.what();
}

TEST(World, KnowsItsPlace) {
  EXPECT_EQ(world->num_hosts(), 1);
  EXPECT_EQ(world->ranks_on_host(), world->size());
  EXPECT_EQ(world->local_rank(), world->rank());
  EXPECT_FALSE(world->host().empty());
  EXPECT_TRUE(contract::contains(world->launcher(), "MPI")) << world->launcher();
  world->comm().barrier({.value = "here"});
  EXPECT_GE(world->calls().num_calls(), 1u);
}

// Rank 0 prints as GoogleTest does; the others print their failures only.
class FailurePrinter final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed())
      std::cerr << "rank " << world->rank() << ": " << result.file_name() << ":" << result.line_number()
                << ": " << result.message() << std::endl;
  }
};

}  // namespace
}  // namespace takt

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::unique_ptr<takt::World> world = takt::World::start(argc, argv);
  takt::world = world.get();
  auto& listeners = testing::UnitTest::GetInstance()->listeners();
  if (world->rank() != 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new takt::FailurePrinter);  // GoogleTest owns it
  }
  const int code = RUN_ALL_TESTS();
  if (code != 0) world->abort(code);  // the others may be waiting
  return 0;
}
