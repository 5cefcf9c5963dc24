// Ranks as threads that use NCCL itself, for tests of its double.
#pragma once

#include <nccl.h>

#include <functional>
#include <thread>
#include <vector>

#include "tests/emulated/nccl_ranks.h"

namespace takt::emulated {

// One rank of the tests below.
struct Member {
  int rank = 0, num_ranks = 1;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};

using MemberBody = std::function<void(const Member&)>;

inline void be_member(int rank, int num_ranks, const ncclUniqueId& id, const MemberBody& body) {
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

inline void run_members(int num_ranks, const MemberBody& body) {
  make_devices(num_ranks);
  ncclUniqueId id;
  TAKT_NCCL(ncclGetUniqueId(&id));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank)
    threads.emplace_back([&, rank] { be_member(rank, num_ranks, id, body); });
  for (std::thread& thread : threads) thread.join();
}

inline void finish(const Member& member) {
  TAKT_CUDA(cudaStreamSynchronize(member.stream));
}

}  // namespace takt::emulated
