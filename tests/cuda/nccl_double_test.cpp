// The double of NCCL by itself, through NVIDIA's own nccl.h: what it computes.
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
#include "tests/emulated/nccl_members.h"

namespace takt::emulated {
namespace {

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

class NcclDouble : public EmulatedRanks {};

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

}  // namespace
}  // namespace takt::emulated
