// How the nccl backend ends: every wait on a call that fails, differs or never finishes, on every rank and by its name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "tests/communicator_contract.h"
#include "tests/emulated/nccl_ranks.h"

namespace takt::emulated {
namespace {

using contract::error_of;
using testing::AllOf;
using testing::HasSubstr;
using TaktSettings = takt::NcclSettings;

// By rank.
using Failures = std::map<int, Error>;

class NcclEnds : public EmulatedRanks {
 protected:
  // Every rank runs `body`, which must throw. Peers of threads that throw are not woken: each ends by itself.
  Failures failures_of(int num_ranks, const TaktSettings& nccl, const RankBody& body) {
    Failures failures;
    std::mutex mutex;
    run_gpu_ranks(num_ranks, nccl, [&](Communicator& host, DeviceCommunicator& comm) {
      const Error error = error_of([&] { body(host, comm); });
      const std::lock_guard lock(mutex);
      failures.emplace(host.rank(), error);
    });
    return failures;
  }

  static constexpr TaktSettings impatient() { return {.call_timeout_s = 0.4}; }
};

TEST_F(NcclEnds, CallsThatDifferAreFoundBetweenSteps) {
  expects_no_diagnoses = false;
  const Failures failures = failures_of(3, {}, [](Communicator& host, DeviceCommunicator& comm) {
    const Buffer<float> buffer(8);
    const CallSite grad{.value = "grad"}, bias{.value = "bias"};
    comm.all_reduce(buffer.data(), 8, DType::kF32, ReduceOp::kSum, grad);
    comm.all_reduce(buffer.data(), 8, DType::kF32, ReduceOp::kSum, host.rank() == 1 ? bias : grad);
    comm.compare_calls();
  });
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(failures.at(rank).fault(), Fault::kPeer);
    EXPECT_THAT(failures.at(rank).what(), AllOf(HasSubstr("'grad' #1"), HasSubstr("'bias' #1")));
  }
}

// All end within the deadline, with the tag of the call, though only rank 1's call is stuck.
TEST_F(NcclEnds, ACallThatNeverFinishesEndsAllRanks) {
  inject_nccl({.call = "ncclAllReduce", .device = 1, .after = 1, .how = NcclFault::How::kNeverFinishes});
  const Failures failures = failures_of(4, impatient(), [](Communicator&, DeviceCommunicator& comm) {
    const CudaStream stream;
    const Buffer<float> buffer(8);
    for (const char* const value : {"first.grad", "second.grad", "third.grad"})
      comm.all_reduce(buffer.data(), 8, DType::kF32, ReduceOp::kSum,
                      {.value = value, .stream = stream.get()});
    comm.wait(stream.get());
  });
  ASSERT_EQ(failures.size(), 4u);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(failures.at(rank).fault(), Fault::kPeer);
    EXPECT_EQ(failures.at(rank).exit_code(), 79);
    EXPECT_THAT(
        failures.at(rank).what(),
        AllOf(HasSubstr(concat("rank ", rank, ": all_reduce sum f32 x 8 'second.grad' #1 in group world")),
              HasSubstr("has not finished within 0.4 s")));
  }
}

TEST_F(NcclEnds, ACallThatFailsEndsAllRanks) {
  inject_nccl({.call = "ncclAllReduce", .device = 2, .after = 1, .code = ncclSystemError});
  const Failures failures = failures_of(4, impatient(), [](Communicator&, DeviceCommunicator& comm) {
    const Buffer<float> buffer(8);
    for (const char* const value : {"first.grad", "second.grad"}) {
      comm.all_reduce(buffer.data(), 8, DType::kF32, ReduceOp::kSum, {.value = value});
      comm.wait(nullptr);
    }
  });
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(failures.at(rank).fault(), Fault::kPeer);
    EXPECT_THAT(failures.at(rank).what(), HasSubstr("'second.grad' #1 in group world"));
  }
  EXPECT_THAT(failures.at(2).what(), HasSubstr("unhandled system error"));
}

TEST_F(NcclEnds, AnAsynchronousErrorEndsAllRanks) {
  inject_nccl(
      {.call = "ncclAllGather", .device = 0, .how = NcclFault::How::kBreaks, .code = ncclRemoteError});
  const Failures failures = failures_of(3, impatient(), [](Communicator&, DeviceCommunicator& comm) {
    const Buffer<float> send(4), receive(12);
    comm.all_gather(send.data(), receive.data(), 4, DType::kF32, {.value = "weight"});
    comm.wait(nullptr);
    comm.require_peers();
    // The call of the rank itself is over as far as its stream goes; its error is found by the monitor.
    while (true) comm.require_peers();
  });
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(failures.at(rank).fault(), Fault::kPeer);
  EXPECT_THAT(failures.at(0).what(), HasSubstr("remote process exited"));
  EXPECT_THAT(failures.at(1).what(), HasSubstr("'weight' #0"));
}

TEST_F(NcclEnds, ARankThatDoesNotComeEndsTheOthers) {
  const Failures failures = failures_of(3, impatient(), [](Communicator& host, DeviceCommunicator& comm) {
    const Buffer<float> buffer(8);
    const auto pair = split_device(comm, 0, "data[0]");
    pair->connect();
    if (host.rank() == 2) fail(Fault::kData, "no data");
    pair->all_reduce(buffer.data(), 8, DType::kF32, ReduceOp::kSum, {.value = "grad"});
    pair->wait(nullptr);
  });
  EXPECT_EQ(failures.at(2).fault(), Fault::kData);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(failures.at(rank).fault(), Fault::kPeer);
    EXPECT_THAT(failures.at(rank).what(), HasSubstr("'grad' #0 in group data[0]"));
  }
}

TEST_F(NcclEnds, AGroupThatIsNotMadeEndsItsRanks) {
  const TaktSettings nccl{.connect_timeout_s = 0.3};
  const Failures failures = failures_of(2, nccl, [](Communicator& host, DeviceCommunicator& comm) {
    const auto group = split_device(comm, 0, "data[0]");
    if (host.rank() == 1) fail(Fault::kData, "no data");
    group->connect();
  });
  EXPECT_EQ(failures.at(0).fault(), Fault::kPeer);
  EXPECT_THAT(failures.at(0).what(), HasSubstr("splitting the group is not done after 0.3 s"));
}

TEST_F(NcclEnds, AMissingRankAtTheStartEndsTheOthers) {
  inject_nccl({.call = "ncclCommInitRankConfig", .device = 1, .code = ncclSystemError});
  make_devices(2);
  Failures failures;
  std::mutex mutex;
  run_ranks(2, [&](Communicator& host) {
    TAKT_CUDA(cudaSetDevice(host.rank()));
    CallLog log;
    const Error error = error_of([&] {
      (void)make_nccl_communicator({host, log}, {.connect_timeout_s = 0.3});
    });
    const std::lock_guard lock(mutex);
    failures.emplace(host.rank(), error);
  });
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(failures.at(rank).fault(), Fault::kPeer);
  EXPECT_THAT(failures.at(0).what(), HasSubstr("group world: connecting is not done after 0.3 s"));
}

// The host never waits for a stream that a peer holds, also when the rank gives up by an exception.
TEST_F(NcclEnds, AbandonFreesTheStreams) {
  run_gpu_ranks(2, {}, [](Communicator& host, DeviceCommunicator& comm) {
    const CudaStream stream;
    const Buffer<float> buffer(8);
    if (host.rank() == 0)
      comm.all_reduce(buffer.data(), 8, DType::kF32, ReduceOp::kSum,
                      {.value = "grad", .stream = stream.get()});
    comm.abandon();
    stream.synchronize();
    EXPECT_EQ(error_of([&] { comm.require_peers(); }).fault(), Fault::kPeer);
    EXPECT_EQ(error_of([&] { comm.barrier({.value = "more"}); }).fault(), Fault::kPeer);
  });
}

}  // namespace
}  // namespace takt::emulated
