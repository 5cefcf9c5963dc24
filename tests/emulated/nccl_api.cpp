// libnccl's symbols, as far as Takt uses them. What is missing does not link, which is the loudest way to say so.
#include <nccl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <random>

#include "tests/emulated/allocations.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/nccl_calls.h"
#include "tests/emulated/nccl_reduce.h"

namespace takt::emulated {
namespace {

constexpr std::size_t kPage = 4096;

// Of ncclMemAlloc, which gives pages: where each begins, and the block that it lies in.
struct Pages {
  Mutex mutex;
  std::map<void*, void*> blocks;
};

Pages& pages() {
  static auto* const all = new Pages;
  return *all;
}

// Whether an allocation of ncclMemAlloc begins there.
bool is_of_mem_alloc(void* memory) {
  const Lock lock(pages().mutex);
  return pages().blocks.contains(memory);
}

}  // namespace
}  // namespace takt::emulated

using namespace takt::emulated;  // NOLINT: the symbols below are libnccl's

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t handle) {
  if (handle == nullptr || live(handle).state() == ncclInProgress) return last_refusal();
  return live(handle).region().head().message;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const auto code = injected_fault("ncclGetUniqueId")) return static_cast<ncclResult_t>(*code);
  std::random_device random;
  std::memset(id, 0, sizeof(*id));
  std::snprintf(id->internal, sizeof(id->internal), "/takt-nccl-%d-%08x%08x", ::getpid(), random(), random());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return make(comm, nranks, rank, &id, 1, config, "ncclCommInitRankConfig");
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int nranks, ncclUniqueId id, int rank) {
  return make(comm, nranks, rank, &id, 1, nullptr, "ncclCommInitRank");
}

ncclResult_t ncclCommInitRankScalable(ncclComm_t* comm, int nranks, int rank, int num_ids, ncclUniqueId* ids,
                                      ncclConfig_t* config) {
  return make(comm, nranks, rank, ids, num_ids, config, "ncclCommInitRankScalable");
}

ncclResult_t ncclCommInitAll(ncclComm_t* comms, int num_devices, const int* devices) {
  ncclUniqueId id;
  if (const ncclResult_t refused = ncclGetUniqueId(&id)) return refused;
  const int before = current_device();
  ncclGroupStart();
  ncclResult_t result = ncclSuccess;
  for (int rank = 0; rank < num_devices && result == ncclSuccess; ++rank) {
    cudaSetDevice(devices == nullptr ? rank : devices[rank]);
    result = ncclCommInitRank(&comms[rank], num_devices, id, rank);
  }
  cudaSetDevice(before);
  const ncclResult_t ended = ncclGroupEnd();
  return result != ncclSuccess ? result : ended;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* out, ncclConfig_t* config) {
  return split(live(comm), color, key, out, config);
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  Comm& comm = live(handle);
  if (const ncclResult_t refused = begin(comm, "ncclCommFinalize")) return refused;
  return comm.start([&comm] { return comm.finalize(); });
}

// Waits for the other ranks, as a real one does that was not finalized before.
ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  const std::shared_ptr<Comm> comm = release(handle);
  if (!comm->is_finalized() && !comm->has_failed()) comm->finalize();
  comm->begin_abort();
  comm->end_abort();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  const std::shared_ptr<Comm> comm = release(handle);
  comm->begin_abort();
  if (group().depth > 0)
    group().aborted.push_back(comm);
  else
    comm->end_abort();
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  *result = live(comm).state();
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  *count = live(comm).num_ranks();
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  *rank = live(comm).rank();
  return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int* device) {
  *device = live(comm).device();
  return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void** memory, size_t num_bytes) {
  if (const auto code = injected_fault("ncclMemAlloc")) return static_cast<ncclResult_t>(*code);
  void* const block = allocate_device_memory(num_bytes + kPage, current_device());
  if (block == nullptr) return ncclUnhandledCudaError;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(block) + kPage - 1) / kPage * kPage;
  *memory = reinterpret_cast<void*>(begin);
  const Lock lock(pages().mutex);
  pages().blocks[*memory] = block;
  return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
  void* block = nullptr;
  {
    const Lock lock(pages().mutex);
    const auto found = pages().blocks.find(memory);
    if (found != pages().blocks.end()) block = found->second;
    pages().blocks.erase(memory);
  }
  if (block != nullptr && release_device_memory(block)) return ncclSuccess;
  return refuse(ncclInvalidArgument, "ncclMemFree: not memory of ncclMemAlloc");
}

ncclResult_t ncclCommRegister(const ncclComm_t handle, void* buffer, size_t num_bytes, void** out) {
  Comm& comm = live(handle);
  if (const ncclResult_t refused = begin(comm, "ncclCommRegister")) return refused;
  return comm.start([=, &comm] { return comm.register_buffer(buffer, num_bytes, false, out); });
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void* handle) {
  return live(comm).deregister(handle, false);
}

ncclResult_t ncclCommWindowRegister(ncclComm_t handle, void* buffer, size_t num_bytes, ncclWindow_t* out,
                                    int flags) {
  Comm& comm = live(handle);
  if (flags != NCCL_WIN_COLL_SYMMETRIC || !is_of_mem_alloc(buffer)) {
    diagnose(
        "ncclCommWindowRegister: only memory of ncclMemAlloc, for collectives, is known at the same place");
    return ncclInvalidArgument;
  }
  if (const ncclResult_t refused = begin(comm, "ncclCommWindowRegister")) return refused;
  return comm.start(
      [=, &comm] { return comm.register_buffer(buffer, num_bytes, true, reinterpret_cast<void**>(out)); });
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
  return live(comm).deregister(window, true);
}

ncclResult_t ncclGroupStart() {
  ++group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (const auto code = injected_fault("ncclGroupEnd")) {
    end_group();
    return static_cast<ncclResult_t>(*code);
  }
  return end_group();
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return add_collective({Kind::kAllReduce, send, receive, count, type, op}, comm, stream);
}

ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type, ncclRedOp_t op,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  return add_collective({Kind::kReduce, send, receive, count, type, op, root}, comm, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return add_collective({Kind::kBroadcast, send, receive, count, type, 0, root}, comm, stream);
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return add_collective({Kind::kAllGather, send, receive, count, type}, comm, stream);
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return add_collective({Kind::kReduceScatter, send, receive, count, type, op}, comm, stream);
}

ncclResult_t ncclAlltoAll(const void* send, void* receive, size_t count, ncclDataType_t type, ncclComm_t comm,
                          cudaStream_t stream) {
  return add_collective({Kind::kAllToAll, send, receive, count, type}, comm, stream);
}

ncclResult_t ncclSend(const void* send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  auto* const data = static_cast<std::byte*>(const_cast<void*>(send));
  return add_message({true, data, count * element_bytes(type), peer}, "ncclSend", comm, stream);
}

ncclResult_t ncclRecv(void* receive, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_message({false, static_cast<std::byte*>(receive), count * element_bytes(type), peer}, "ncclRecv",
                     comm, stream);
}

}  // extern "C"
