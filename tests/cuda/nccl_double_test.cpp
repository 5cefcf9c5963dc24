// The double of NCCL by itself, through NVIDIA's own nccl.h: what it computes, and what it diagnoses instead of hanging.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "core/device/cuda/graph.h"
#include "tests/emulated/nccl_ranks.h"

namespace takt::emulated {
namespace {

using testing::HasSubstr;

// One rank of the tests below.
struct Member {
  int rank = 0, num_ranks = 1;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};

using MemberBody = std::function<void(const Member&)>;

void be_member(int rank, int num_ranks, const ncclUniqueId& id, const MemberBody& body) {
  TAKT_CUDA(cudaSetDevice(rank));
  const CudaStream stream;
  Member member{rank, num_ranks, nullptr, stream.get()};
  TAKT_NCCL(ncclCommInitRank(&member.comm, num_ranks, id, rank));
  body(member);
  // A communicator with an error cannot end together with its peers.
  ncclResult_t state = ncclSuccess;
  TAKT_NCCL(ncclCommGetAsyncError(member.comm, &state));
  TAKT_NCCL(state == ncclSuccess ? ncclCommDestroy(member.comm) : ncclCommAbort(member.comm));
}

void run_members(int num_ranks, const MemberBody& body) {
  make_devices(num_ranks);
  ncclUniqueId id;
  TAKT_NCCL(ncclGetUniqueId(&id));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] { be_member(rank, num_ranks, id, body); });
  for (std::thread& thread : threads) thread.join();
}

void finish(const Member& member) {
  TAKT_CUDA(cudaStreamSynchronize(member.stream));
}

// Small whole numbers, which every type holds and adds exactly.
template <class T>
T value_of(int rank, std::size_t i) {
  return static_cast<T>(static_cast<float>((rank * 5 + static_cast<int>(i)) % 4 + 1));
}

template <class T>
std::vector<T> values_of(int rank, std::size_t num) {
  std::vector<T> values(num);
  for (std::size_t i = 0; i < num; ++i) values[i] = value_of<T>(rank, i);
  return values;
}

template <class T>
float as_float(T value) {
  return static_cast<float>(value);
}

float reduced(int num_ranks, std::size_t i, ncclRedOp_t op) {
  float out = value_of<float>(0, i);
  for (int rank = 1; rank < num_ranks; ++rank) {
    const float next = value_of<float>(rank, i);
    out = op == ncclProd  ? out * next
          : op == ncclMax ? std::max(out, next)
          : op == ncclMin ? std::min(out, next)
                          : out + next;
  }
  return op == ncclAvg ? out / static_cast<float>(num_ranks) : out;
}

template <class T>
void reduces(const Member& member, ncclDataType_t type) {
  constexpr std::size_t kNum = 301;
  for (const ncclRedOp_t op : {ncclSum, ncclProd, ncclMin, ncclMax, ncclAvg}) {
    if (op == ncclAvg && std::numeric_limits<T>::is_integer) continue;  // rounds: below
    const Buffer<T> send(values_of<T>(member.rank, kNum)), receive(kNum);
    TAKT_NCCL(ncclAllReduce(send.data(), receive.data(), kNum, type, op, member.comm, member.stream));
    finish(member);
    const std::vector<T> got = receive.get();
    const float tolerance = op == ncclAvg ? 0.01f : 0.0f;  // a third is no bf16
    for (std::size_t i = 0; i < kNum; ++i)
      ASSERT_NEAR(as_float(got[i]), reduced(member.num_ranks, i, op), tolerance)
          << "type " << type << " op " << op;
  }
}

void reduces_every_type(const Member& member) {
  reduces<float>(member, ncclFloat32);
  reduces<double>(member, ncclFloat64);
  reduces<__half>(member, ncclFloat16);
  reduces<__nv_bfloat16>(member, ncclBfloat16);
  reduces<std::int8_t>(member, ncclInt8);
  reduces<std::uint8_t>(member, ncclUint8);
  reduces<std::int32_t>(member, ncclInt32);
  reduces<std::uint32_t>(member, ncclUint32);
  reduces<std::int64_t>(member, ncclInt64);
  reduces<std::uint64_t>(member, ncclUint64);
}

// Large enough for several chunks, which processes use.
constexpr std::size_t kMany = 600'000;

void moves_every_part(const Member& member) {
  const auto ranks = static_cast<std::size_t>(member.num_ranks);
  const Buffer<int> one(values_of<int>(member.rank, kMany)), all(kMany * ranks), out(kMany),
      exchanged(kMany * ranks);
  const int root = member.num_ranks - 1;
  TAKT_NCCL(ncclAllGather(one.data(), all.data(), kMany, ncclInt32, member.comm, member.stream));
  TAKT_NCCL(ncclReduceScatter(all.data(), out.data(), kMany, ncclInt32, ncclSum, member.comm, member.stream));
  TAKT_NCCL(ncclAlltoAll(all.data(), exchanged.data(), kMany, ncclInt32, member.comm, member.stream));
  finish(member);
  const std::vector<int> gathered = all.get(), scattered = out.get(), parts = exchanged.get();
  for (std::size_t i = 0; i < kMany; i += 997) {
    for (int rank = 0; rank < member.num_ranks; ++rank) {
      const std::size_t at = static_cast<std::size_t>(rank) * kMany + i;
      ASSERT_EQ(gathered[at], value_of<int>(rank, i));
      ASSERT_EQ(parts[at], value_of<int>(member.rank, i));
    }
    ASSERT_EQ(scattered[i], member.num_ranks * value_of<int>(member.rank, i));
  }
  TAKT_NCCL(ncclReduce(one.data(), out.data(), kMany, ncclInt32, ncclMax, root, member.comm, member.stream));
  TAKT_NCCL(ncclBroadcast(out.data(), one.data(), kMany, ncclInt32, root, member.comm, member.stream));
  finish(member);
  const std::vector<int> from_root = one.get();
  for (std::size_t i = 0; i < kMany; i += 997)
    ASSERT_EQ(static_cast<float>(from_root[i]), reduced(member.num_ranks, i, ncclMax));
}

void sends_round_the_ring(const Member& member) {
  const int next = (member.rank + 1) % member.num_ranks;
  const int before = (member.rank + member.num_ranks - 1) % member.num_ranks;
  const Buffer<int> send(values_of<int>(member.rank, kMany)), receive(kMany);
  TAKT_NCCL(ncclGroupStart());
  TAKT_NCCL(ncclSend(send.data(), kMany, ncclInt32, next, member.comm, member.stream));
  TAKT_NCCL(ncclRecv(receive.data(), kMany, ncclInt32, before, member.comm, member.stream));
  TAKT_NCCL(ncclGroupEnd());
  finish(member);
  EXPECT_EQ(receive.get(), values_of<int>(before, kMany));
}

class NcclDouble : public EmulatedRanks {
 protected:
  // Fails at once where NCCL would hang.
  void be_impatient() {
    NcclSettings settings = nccl_settings();
    settings.watchdog_ms = 300;
    configure_nccl(settings);
    expects_no_diagnoses = false;
  }
};

TEST_F(NcclDouble, ReducesEveryType) {
  for (const int num_ranks : {1, 2, 3, 5}) run_members(num_ranks, reduces_every_type);
}

TEST_F(NcclDouble, MovesEveryPart) {
  for (const int num_ranks : {1, 2, 3}) run_members(num_ranks, moves_every_part);
  run_members(4, sends_round_the_ring);
}

TEST_F(NcclDouble, DoesTheSameThroughChunks) {
  configure_nccl({.goes_through_chunks = true});
  run_members(3, reduces_every_type);
  run_members(3, moves_every_part);
  run_members(3, sends_round_the_ring);
}

TEST_F(NcclDouble, AveragesOfIntegersAreCutOff) {
  run_members(2, [](const Member& member) {
    const Buffer<int> buffer(std::vector<int>{member.rank == 0 ? 3 : 4, -3});
    TAKT_NCCL(ncclAllReduce(buffer.data(), buffer.data(), 2, ncclInt32, ncclAvg, member.comm, member.stream));
    finish(member);
    EXPECT_EQ(buffer.get(), (std::vector<int>{3, -3}));
  });
}

TEST_F(NcclDouble, WorksInGraphs) {
  run_members(2, [](const Member& member) {
    const CudaStream stream;
    const Buffer<float> buffer(std::vector<float>{1.0f});
    const Buffer<float> message(1);
    const CudaGraph graph(stream, [&] {
      TAKT_NCCL(
          ncclAllReduce(buffer.data(), buffer.data(), 1, ncclFloat32, ncclSum, member.comm, stream.get()));
      if (member.rank == 0)
        TAKT_NCCL(ncclSend(buffer.data(), 1, ncclFloat32, 1, member.comm, stream.get()));
      else
        TAKT_NCCL(ncclRecv(message.data(), 1, ncclFloat32, 0, member.comm, stream.get()));
    });
    for (int launch = 0; launch < 3; ++launch) graph.launch(stream);
    stream.synchronize();
    EXPECT_EQ(buffer.get()[0], 8.0f);
    EXPECT_TRUE(member.rank == 0 || message.get()[0] == 8.0f);
  });
}

TEST_F(NcclDouble, OneThreadMayHoldAllRanks) {
  make_devices(4);
  std::vector<ncclComm_t> comms(4);
  TAKT_NCCL(ncclCommInitAll(comms.data(), 4, nullptr));
  for (int rank = 0; rank < 4; ++rank) {
    int device = -1;
    TAKT_NCCL(ncclCommCuDevice(comms[static_cast<std::size_t>(rank)], &device));
    EXPECT_EQ(device, rank);
  }
  for (const ncclComm_t comm : comms) TAKT_NCCL(ncclCommAbort(comm));
}

// The same test once more in a process of its own, told by the environment which rank it is.
pid_t spawn_rank(int rank, const ncclUniqueId& id) {
  const std::string with_rank = "TAKT_NCCL_TEST_RANK=" + std::to_string(rank);
  const std::string with_id = std::string("TAKT_NCCL_TEST_ID=") + id.internal;
  const char* const arguments[] = {"takt_nccl_tests", "--gtest_filter=NcclDouble.RanksMayBeProcesses",
                                   nullptr};
  const char* const environment[] = {with_rank.c_str(), with_id.c_str(), nullptr};
  pid_t child = -1;
  EXPECT_EQ(::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, const_cast<char* const*>(arguments),
                          const_cast<char* const*>(environment)),
            0);
  return child;
}

TEST_F(NcclDouble, RanksMayBeProcesses) {
  constexpr int kNum = 3;
  int rank = 0;
  ncclUniqueId id = {};
  std::vector<pid_t> children;
  if (const char* const given = std::getenv("TAKT_NCCL_TEST_RANK")) {
    rank = std::atoi(given);
    std::snprintf(id.internal, sizeof(id.internal), "%s", std::getenv("TAKT_NCCL_TEST_ID"));
  } else {
    TAKT_NCCL(ncclGetUniqueId(&id));
    for (int child = 1; child < kNum; ++child) children.push_back(spawn_rank(child, id));
  }
  make_devices(kNum);
  std::thread([&] {
    be_member(rank, kNum, id, [](const Member& member) {
      reduces_every_type(member);
      moves_every_part(member);
      sends_round_the_ring(member);
    });
  }).join();
  for (const pid_t child : children) {
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
}

TEST_F(NcclDouble, CallsThatDifferAreDiagnosed) {
  be_impatient();
  run_members(4, [](const Member& member) {
    const Buffer<float> buffer(64);
    const std::size_t num = member.rank == 2 ? 63 : 64;
    TAKT_NCCL(
        ncclAllReduce(buffer.data(), buffer.data(), num, ncclFloat32, ncclSum, member.comm, member.stream));
    finish(member);
    ncclResult_t state = ncclSuccess;
    TAKT_NCCL(ncclCommGetAsyncError(member.comm, &state));
    EXPECT_EQ(state, ncclInvalidUsage);
  });
  EXPECT_THAT(all_diagnoses(), HasSubstr("rank 0 ncclAllReduce count 64"));
  EXPECT_THAT(all_diagnoses(), HasSubstr("rank 2 ncclAllReduce count 63"));
}

TEST_F(NcclDouble, AbsentRanksAreNamed) {
  be_impatient();
  run_members(5, [](const Member& member) {
    const Buffer<float> buffer(8);
    if (member.rank != 1 && member.rank != 3)
      TAKT_NCCL(
          ncclAllReduce(buffer.data(), buffer.data(), 8, ncclFloat32, ncclSum, member.comm, member.stream));
    ncclResult_t state = ncclSuccess;
    while (state == ncclSuccess) {
      TAKT_NCCL(ncclCommGetAsyncError(member.comm, &state));
      std::this_thread::yield();
    }
    finish(member);
  });
  EXPECT_THAT(all_diagnoses(), HasSubstr("not there: ranks 1, 3"));
}

TEST_F(NcclDouble, CommunicatorsUsedInDifferentOrdersAreNamed) {
  be_impatient();
  run_members(2, [](const Member& member) {
    ncclComm_t other = nullptr;
    TAKT_NCCL(ncclCommSplit(member.comm, 0, member.rank, &other, nullptr));
    const Buffer<float> buffer(8);
    ncclComm_t order[] = {member.comm, other};
    if (member.rank == 1) std::swap(order[0], order[1]);
    for (const ncclComm_t comm : order)
      TAKT_NCCL(ncclAllReduce(buffer.data(), buffer.data(), 8, ncclFloat32, ncclSum, comm, member.stream));
    finish(member);
    TAKT_NCCL(ncclCommAbort(other));
  });
  EXPECT_THAT(all_diagnoses(), HasSubstr("(in operation 1, ncclAllReduce of "));
}

TEST_F(NcclDouble, MessagesThatDoNotFitAreDiagnosed) {
  be_impatient();
  run_members(2, [](const Member& member) {
    const Buffer<float> buffer(8);
    if (member.rank == 0)
      TAKT_NCCL(ncclSend(buffer.data(), 8, ncclFloat32, 1, member.comm, member.stream));
    else
      TAKT_NCCL(ncclRecv(buffer.data(), 7, ncclFloat32, 0, member.comm, member.stream));
    finish(member);
  });
  EXPECT_THAT(all_diagnoses(), HasSubstr("rank 1 receives 28 bytes from rank 0, which sends 32"));
}

TEST_F(NcclDouble, WrongArgumentsAreDiagnosed) {
  be_impatient();
  run_members(2, [](const Member& member) {
    const Buffer<float> buffer(8);
    const auto reduce = [&](float* data, cudaStream_t stream) {
      return ncclAllReduce(data, data, 8, ncclFloat32, ncclSum, member.comm, stream);
    };
    TAKT_CUDA(cudaSetDevice(1 - member.rank));
    {
      const CudaStream stream_of_other;
      EXPECT_EQ(reduce(buffer.data(), stream_of_other.get()), ncclInvalidArgument);
    }
    TAKT_CUDA(cudaSetDevice(member.rank));
    EXPECT_EQ(reduce(buffer.data() + 1, member.stream), ncclInvalidArgument);
    std::vector<float> of_host(8);
    EXPECT_EQ(reduce(of_host.data(), member.stream), ncclInvalidArgument);
    EXPECT_EQ(ncclAllGather(buffer.data(), buffer.data() + 2, 3, ncclFloat32, member.comm, member.stream),
              ncclInvalidArgument);
    EXPECT_EQ(ncclSend(buffer.data(), 1, ncclFloat32, 2, member.comm, member.stream), ncclInvalidArgument);
  });
  EXPECT_THAT(all_diagnoses(), HasSubstr("the stream is of device 1, the communicator of device 0"));
  EXPECT_THAT(all_diagnoses(), HasSubstr("ncclAllReduce: sendbuff"));
  EXPECT_THAT(all_diagnoses(), HasSubstr("overlap, but not as in place"));
  EXPECT_THAT(all_diagnoses(), HasSubstr("peer 2 of 2 ranks"));
}

TEST_F(NcclDouble, OneDeviceForTwoRanksIsDiagnosed) {
  expects_no_diagnoses = false;
  make_devices(1);
  ncclUniqueId id;
  TAKT_NCCL(ncclGetUniqueId(&id));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      ncclComm_t comm = nullptr;
      EXPECT_EQ(ncclCommInitRank(&comm, 2, id, rank), ncclInvalidUsage);
      TAKT_NCCL(ncclCommAbort(comm));
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(all_diagnoses(), HasSubstr("duplicate device"));
}

TEST_F(NcclDouble, CallsOfOneGroupThatUseEachOthersMemoryAreDiagnosed) {
  expects_no_diagnoses = false;
  run_members(1, [](const Member& member) {
    const Buffer<float> a(8), b(8), c(8);
    TAKT_NCCL(ncclGroupStart());
    TAKT_NCCL(ncclAllReduce(a.data(), b.data(), 8, ncclFloat32, ncclSum, member.comm, member.stream));
    TAKT_NCCL(ncclAllReduce(b.data(), c.data(), 8, ncclFloat32, ncclSum, member.comm, member.stream));
    TAKT_NCCL(ncclGroupEnd());
    finish(member);
  });
  EXPECT_THAT(all_diagnoses(), HasSubstr("are in one group and use the same memory"));
}

TEST_F(NcclDouble, NonBlockingCommunicatorsWantToBeAsked) {
  expects_no_diagnoses = false;
  make_devices(1);
  ncclUniqueId id;
  TAKT_NCCL(ncclGetUniqueId(&id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  EXPECT_EQ(ncclCommInitRankConfig(&comm, 1, id, 0, &config), ncclInProgress);
  const auto settle = [&] {
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) TAKT_NCCL(ncclCommGetAsyncError(comm, &state));
    return state;
  };
  EXPECT_EQ(settle(), ncclSuccess);
  const CudaStream stream;
  const Buffer<float> from(std::vector<float>{2.0f}), to(std::vector<float>{1.0f});
  const auto reduce = [&] {
    return ncclAllReduce(from.data(), to.data(), 1, ncclFloat32, ncclSum, comm, stream.get());
  };
  EXPECT_EQ(reduce(), ncclInProgress);
  stream.synchronize();
  EXPECT_EQ(to.get()[0], 1.0f) << "nothing is launched before someone asks";
  EXPECT_EQ(reduce(), ncclInvalidUsage);
  EXPECT_EQ(settle(), ncclSuccess);
  stream.synchronize();
  EXPECT_EQ(to.get()[0], 2.0f);
  TAKT_NCCL(ncclCommDestroy(comm));
}

TEST_F(NcclDouble, AbortFreesAStreamWhosePeersDoNotCome) {
  make_devices(2);
  ncclUniqueId id;
  TAKT_NCCL(ncclGetUniqueId(&id));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      TAKT_CUDA(cudaSetDevice(rank));
      const CudaStream stream;
      ncclComm_t comm = nullptr;
      TAKT_NCCL(ncclCommInitRank(&comm, 2, id, rank));
      const Buffer<float> buffer(8);
      if (rank == 0)
        TAKT_NCCL(ncclAllReduce(buffer.data(), buffer.data(), 8, ncclFloat32, ncclSum, comm, stream.get()));
      TAKT_NCCL(ncclCommAbort(comm));
      stream.synchronize();
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace takt::emulated
