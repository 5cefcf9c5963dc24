// What the double of NCCL says where a real one hangs, corrupts memory or returns a bare code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "tests/emulated/nccl_members.h"

namespace takt::emulated {
namespace {

using testing::HasSubstr;

class NcclDiagnoses : public EmulatedRanks {
 protected:
  // Fails at once where NCCL would hang.
  void be_impatient() {
    NcclSettings settings = nccl_settings();
    settings.watchdog_ms = 300;
    configure_nccl(settings);
    expects_no_diagnoses = false;
  }
};

TEST_F(NcclDiagnoses, CallsThatDifferAreDiagnosed) {
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

TEST_F(NcclDiagnoses, AbsentRanksAreNamed) {
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

TEST_F(NcclDiagnoses, CommunicatorsUsedInDifferentOrdersAreNamed) {
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

TEST_F(NcclDiagnoses, MessagesThatDoNotFitAreDiagnosed) {
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

TEST_F(NcclDiagnoses, WrongArgumentsAreDiagnosed) {
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

TEST_F(NcclDiagnoses, OneDeviceForTwoRanksIsDiagnosed) {
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

TEST_F(NcclDiagnoses, CallsOfOneGroupThatUseEachOthersMemoryAreDiagnosed) {
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

TEST_F(NcclDiagnoses, NonBlockingCommunicatorsWantToBeAsked) {
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

TEST_F(NcclDiagnoses, AbortFreesAStreamWhosePeersDoNotCome) {
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
