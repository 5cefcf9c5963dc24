// The nccl backend on the double: how groups are made, and what goes out together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "core/device/cuda/graph.h"
#include "tests/communicator_contract.h"
#include "tests/emulated/nccl_ranks.h"

namespace takt::emulated {
namespace {

using contract::error_of;
using TaktSettings = takt::NcclSettings;

class Nccl : public EmulatedRanks {};

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

TEST_F(Nccl, EveryPolicyReachesTheCommunicators) {
  using Policy = TaktSettings::CtaPolicy;
  for (const auto& [policy, code] : {std::pair(Policy::kDefault, NCCL_CONFIG_UNDEF_INT),
                                     {Policy::kEfficiency, NCCL_CTA_POLICY_EFFICIENCY},
                                     {Policy::kZero, NCCL_CTA_POLICY_ZERO}})
    run_gpu_ranks(2, {.cta_policy = policy}, [code = code](Communicator& host, DeviceCommunicator&) {
      host.barrier({.value = "all are there"});
      for (const NcclFacts& facts : live_communicators()) EXPECT_EQ(facts.config.CTAPolicy, code);
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

}  // namespace
}  // namespace takt::emulated
