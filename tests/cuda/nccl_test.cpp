// The nccl backend on the double: how groups are made, what goes out together, and how every wait ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/device/cuda/graph.h"
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

class Nccl : public EmulatedRanks {
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

TEST_F(Nccl, IsRegistered) {
  make_devices(2);
  run_ranks(2, [](Communicator& host) {
    TAKT_CUDA(cudaSetDevice(host.rank()));
    CallLog log;
    const std::unique_ptr<Communicator> comm = make_nccl({host, log});
    EXPECT_EQ(comm->backend(), "nccl");
    EXPECT_EQ(comm->rank(), host.rank());
    EXPECT_EQ(comm->size(), 2);
  });
}

TEST_F(Nccl, ReducesBf16) {
  run_gpu_ranks(4, {}, [](Communicator& host, DeviceCommunicator& comm) {
    const CudaStream stream;
    const Buffer<__nv_bfloat16> buffer(
        std::vector<__nv_bfloat16>(300, __float2bfloat16(static_cast<float>(host.rank()))));
    comm.all_reduce(buffer.data(), 300, DType::kBF16, ReduceOp::kSum,
                    {.value = "grad", .stream = stream.get()});
    comm.wait(stream.get());
    EXPECT_EQ(__bfloat162float(buffer.get()[299]), 6.0f);
  });
}

// ---- Making groups. ----

TEST_F(Nccl, SettingsReachTheCommunicators) {
  const TaktSettings nccl{.min_ctas = 2,
                          .max_ctas = 8,
                          .nvls_ctas = 4,
                          .cga_cluster_size = 2,
                          .cta_policy = TaktSettings::CtaPolicy::kEfficiency,
                          .share_resources = false,
                          .traffic_class = 3,
                          .network = "IB"};
  run_gpu_ranks(2, nccl, [](Communicator& host, DeviceCommunicator& comm) {
    const auto half = split_device(comm, 0, "data[0]");
    half->connect();
    host.barrier({.value = "all are there"});
    for (const NcclFacts& facts : live_communicators()) {
      EXPECT_EQ(facts.config.blocking, 0);
      EXPECT_EQ(facts.config.minCTAs, 2);
      EXPECT_EQ(facts.config.maxCTAs, 8);
      EXPECT_EQ(facts.config.nvlsCTAs, 4);
      EXPECT_EQ(facts.config.cgaClusterSize, 2);
      EXPECT_EQ(facts.config.CTAPolicy, NCCL_CTA_POLICY_EFFICIENCY);
      EXPECT_EQ(facts.config.splitShare, 0);
      EXPECT_EQ(facts.config.trafficClass, 3);
      EXPECT_STREQ(facts.config.netName, "IB");
      EXPECT_THAT(facts.name, testing::AnyOf("world", "data[0]"));
    }
    host.barrier({.value = "all have looked"});
  });
}

TEST_F(Nccl, ManyRanksMeetThroughSeveralIds) {
  run_gpu_ranks(7, {.ranks_per_id = 3}, [](Communicator& host, DeviceCommunicator& comm) {
    for (const NcclFacts& facts : live_communicators()) EXPECT_EQ(facts.num_ids, 3);
    const Buffer<int> one(std::vector<int>{1});
    comm.all_reduce(one.data(), 1, DType::kI32, ReduceOp::kSum, {.value = "ones"});
    comm.wait(nullptr);
    EXPECT_EQ(one.get()[0], 7);
    host.barrier({.value = "all have looked"});
  });
}

TEST_F(Nccl, AGroupIsConnectedWhenItIsFirstUsed) {
  run_gpu_ranks(4, {}, [](Communicator& host, DeviceCommunicator& comm) {
    const auto data = split_device(comm, host.rank() / 2, "data");
    const auto unused = split_device(comm, host.rank() % 2, "tensor");
    host.barrier({.value = "nobody has used one"});
    EXPECT_EQ(live_communicators().size(), 4u);
    host.barrier({.value = "all have looked"});
    const Buffer<int> one(std::vector<int>{1});
    data->all_reduce(one.data(), 1, DType::kI32, ReduceOp::kSum, {.value = "ones"});
    data->wait(nullptr);
    EXPECT_EQ(one.get()[0], 2);
    host.barrier({.value = "all have used one"});
    EXPECT_EQ(live_communicators().size(), 8u);
    host.barrier({.value = "all have looked once more"});
  });
}

TEST_F(Nccl, RegisteredMemoryIsKnownToEveryGroup) {
  for (const auto registration : {TaktSettings::Registration::kNone, TaktSettings::Registration::kLocal,
                                  TaktSettings::Registration::kSymmetric}) {
    const TaktSettings nccl{.registration = registration};
    run_gpu_ranks(2, nccl, [&](Communicator& host, DeviceCommunicator& comm) {
      void* memory = nullptr;
      TAKT_NCCL(ncclMemAlloc(&memory, 8192));
      const auto before = split_device(comm, 0, "before");
      before->connect();
      comm.register_memory(memory, 8192);
      const auto after = split_device(comm, 0, "after");
      after->connect();
      host.barrier({.value = "all are registered"});
      for (const NcclFacts& facts : live_communicators()) {
        EXPECT_EQ(facts.num_registered, registration == TaktSettings::Registration::kLocal ? 1u : 0u);
        EXPECT_EQ(facts.num_windows, registration == TaktSettings::Registration::kSymmetric ? 1u : 0u);
      }
      host.barrier({.value = "all have looked"});
      TAKT_NCCL(ncclMemFree(memory));
    });
  }
}

// ---- Calls. ----

TEST_F(Nccl, CallsGoOutTogether) {
  run_gpu_ranks(2, {}, [](Communicator& host, DeviceCommunicator& comm) {
    const CudaStream stream;
    const CallSite at{.value = "grads", .stream = stream.get()};
    const int other = 1 - host.rank();
    const Buffer<float> a(std::vector<float>{1.0f}), b(std::vector<float>{2.0f});
    const Buffer<int> mine(std::vector<int>{host.rank()}), theirs(1);
    comm.launch_together([&] {
      comm.all_reduce(a.data(), 1, DType::kF32, ReduceOp::kSum, at);
      comm.all_reduce(b.data(), 1, DType::kF32, ReduceOp::kSum, at);
      // One by one these would wait for each other.
      comm.send(mine.data(), 1, DType::kI32, other, at);
      comm.receive(theirs.data(), 1, DType::kI32, other, at);
    });
    comm.wait(stream.get());
    EXPECT_EQ(a.get()[0], 2.0f);
    EXPECT_EQ(b.get()[0], 4.0f);
    EXPECT_EQ(theirs.get()[0], other);
    for (const NcclFacts& facts : live_communicators()) EXPECT_EQ(facts.num_operations, 3u);
    host.barrier({.value = "all have looked"});
  });
}

TEST_F(Nccl, NothingGoesOutIfTheCallerFailsBetween) {
  run_gpu_ranks(2, {}, [](Communicator& host, DeviceCommunicator& comm) {
    const Buffer<float> a(std::vector<float>{1.0f});
    const Error error = error_of([&] {
      comm.launch_together([&] {
        comm.all_reduce(a.data(), 1, DType::kF32, ReduceOp::kSum, {.value = "grad"});
        fail(Fault::kData, "no data");
      });
    });
    EXPECT_EQ(error.fault(), Fault::kData);
    comm.all_reduce(a.data(), 1, DType::kF32, ReduceOp::kSum, {.value = "grad"});
    comm.wait(nullptr);
    EXPECT_EQ(a.get()[0], 2.0f);
    host.barrier({.value = "end"});
  });
}

TEST_F(Nccl, ABarrierHoldsBackTheStream) {
  run_gpu_ranks(3, {}, [](Communicator&, DeviceCommunicator& comm) {
    comm.barrier({.value = "all are here"});
    comm.wait(nullptr);
  });
}

TEST_F(Nccl, CallsBecomePartOfAGraph) {
  run_gpu_ranks(2, {}, [](Communicator&, DeviceCommunicator& comm) {
    const CudaStream stream;
    const Buffer<float> a(std::vector<float>{1.0f});
    const CudaGraph graph(stream, [&] {
      comm.all_reduce(a.data(), 1, DType::kF32, ReduceOp::kSum, {.value = "grad", .stream = stream.get()});
    });
    EXPECT_EQ(a.get()[0], 1.0f);
    for (int launch = 0; launch < 3; ++launch) graph.launch(stream);
    comm.wait(stream.get());
    EXPECT_EQ(a.get()[0], 8.0f);
    comm.compare_calls();
  });
}

// With as many ranks in a domain as a block of the tree has, the bits are the same.
TEST_F(Nccl, AReductionByDomainsIsTheSame) {
  for (const std::size_t num : {std::size_t{1}, std::size_t{3}, std::size_t{4}, std::size_t{1001}}) {
    std::atomic<int> num_groups = 0;
    make_devices(8);
    run_ranks(8, [&](Communicator& host) {
      TAKT_CUDA(cudaSetDevice(host.rank()));
      CallLog log;
      const auto comm = make_nccl_communicator(
          {host, log}, {.reduces_by_domain = true, .domain = concat("rack ", host.rank() / 4)});
      const Buffer<float> buffer(contract::elements<float>(host.rank(), num));
      const Buffer<float> other(contract::elements<float>(host.rank(), num));
      comm->launch_together([&] {
        comm->all_reduce(buffer.data(), num, DType::kF32, ReduceOp::kSum, {.value = "grad"});
        comm->all_reduce(other.data(), num, DType::kF32, ReduceOp::kMax, {.value = "norm"});
      });
      comm->wait(nullptr);
      const std::vector<float> sums = buffer.get(), maxima = other.get();
      for (std::size_t i = 0; i < num; ++i) {
        EXPECT_EQ(sums[i], contract::reduced<float>(8, i, ReduceOp::kSum));
        EXPECT_EQ(maxima[i], contract::reduced<float>(8, i, ReduceOp::kMax));
      }
      host.barrier({.value = "all have reduced"});
      if (host.rank() == 0) num_groups = static_cast<int>(live_communicators().size());
      host.barrier({.value = "all have looked"});
    });
    EXPECT_EQ(num_groups, 3 * 8);
  }
}

// Domains of different sizes, or not side by side, are reduced at once.
TEST_F(Nccl, DomainsThatAreNotAlikeAreNotUsed) {
  for (const std::vector<int>& domains :
       {std::vector<int>{0, 0, 0, 1}, {0, 1, 0, 1}, {0, 0, 0, 0}, {0, 1, 2, 3}}) {
    make_devices(4);
    run_ranks(4, [&](Communicator& host) {
      TAKT_CUDA(cudaSetDevice(host.rank()));
      CallLog log;
      const auto comm = make_nccl_communicator(
          {host, log},
          {.reduces_by_domain = true, .domain = concat(domains[static_cast<std::size_t>(host.rank())])});
      host.barrier({.value = "all are connected"});
      EXPECT_EQ(live_communicators().size(), 4u);
      host.barrier({.value = "all have looked"});
    });
  }
}

// ---- 512 ranks: data x tensor x pipeline. ----

struct Place {
  int data, pipeline, tensor;
};

void expect_sum(DeviceCommunicator& comm, int rank, int expected) {
  const Buffer<std::int32_t> value(std::vector<std::int32_t>{rank});
  comm.all_reduce(value.data(), 1, DType::kI32, ReduceOp::kSum, {.value = "ranks"});
  comm.wait(nullptr);
  EXPECT_EQ(value.get()[0], expected);
}

void use_mesh(Communicator& host, DeviceCommunicator& world) {
  const int rank = host.rank();
  const Place at{rank / 32, rank / 8 % 4, rank % 8};
  const auto tensor = split_device(world, rank / 8, concat("tensor[", rank / 8 * 8, "]"));
  const auto data = split_device(world, rank % 32, concat("data[", rank % 32, "]"));
  const auto joint = split_device(world, at.pipeline, concat("data,tensor[", at.pipeline, "]"));
  ASSERT_EQ(tensor->size(), 8);
  ASSERT_EQ(data->size(), 16);
  ASSERT_EQ(joint->size(), 128);
  ASSERT_EQ(joint->rank(), at.data * 8 + at.tensor);
  expect_sum(*tensor, rank, 8 * (rank / 8 * 8) + 28);
  expect_sum(*data, rank, 16 * (rank % 32) + 32 * 120);
  expect_sum(world, rank, 512 * 511 / 2);
  // A sharded parameter: gathered, its gradient scattered.
  const Buffer<float> shard(std::vector<float>(4, static_cast<float>(at.data))), whole(64);
  data->all_gather(shard.data(), whole.data(), 4, DType::kF32, {.value = "weight"});
  data->reduce_scatter(whole.data(), shard.data(), 4, DType::kF32, ReduceOp::kSum, {.value = "weight.grad"});
  data->wait(nullptr);
  EXPECT_EQ(whole.get()[63], 15.0f);
  EXPECT_EQ(shard.get(), std::vector<float>(4, 16.0f * static_cast<float>(at.data)));
  expect_sum(*joint, 1, 128);
  for (DeviceCommunicator* comm : {tensor.get(), data.get(), joint.get(), &world}) comm->compare_calls();
}

TEST_F(Nccl, FiveHundredRanksUseAMesh) {
  run_gpu_ranks(512, {}, use_mesh);
}

// ---- Ends. ----

TEST_F(Nccl, CallsThatDifferAreFoundBetweenSteps) {
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
TEST_F(Nccl, ACallThatNeverFinishesEndsAllRanks) {
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

TEST_F(Nccl, ACallThatFailsEndsAllRanks) {
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

TEST_F(Nccl, AnAsynchronousErrorEndsAllRanks) {
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

TEST_F(Nccl, ARankThatDoesNotComeEndsTheOthers) {
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

TEST_F(Nccl, AGroupThatIsNotMadeEndsItsRanks) {
  const TaktSettings nccl{.connect_timeout_s = 0.3};
  const Failures failures = failures_of(2, nccl, [](Communicator& host, DeviceCommunicator& comm) {
    const auto group = split_device(comm, 0, "data[0]");
    if (host.rank() == 1) fail(Fault::kData, "no data");
    group->connect();
  });
  EXPECT_EQ(failures.at(0).fault(), Fault::kPeer);
  EXPECT_THAT(failures.at(0).what(), HasSubstr("splitting the group is not done after 0.3 s"));
}

TEST_F(Nccl, AMissingRankAtTheStartEndsTheOthers) {
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
TEST_F(Nccl, AbandonFreesTheStreams) {
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
