// libnccl's symbols, as far as Takt uses them. What is missing does not link, which is the loudest way to say so.
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "tests/emulated/allocations.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/nccl_group.h"
#include "tests/emulated/nccl_reduce.h"

struct ncclComm {
  std::shared_ptr<takt::emulated::Comm> comm;
};

namespace takt::emulated {
namespace {

constexpr std::size_t kPage = 4096;

struct State {
  Mutex mutex;
  NcclSettings settings;
  std::vector<NcclFault> faults;
  std::set<ncclComm_t> handles;
  std::map<void*, void*> memory;  // of ncclMemAlloc: what it gave to what it has
};

State& state() {
  static auto* const all = new State;
  return *all;
}

thread_local std::string last_error;

ncclResult_t refuse(ncclResult_t code, const std::string& message) {
  diagnose(message);
  last_error = message;
  return code;
}

// The fault that a test has put on this call of the rank with that device.
std::optional<NcclFault> take_fault(std::string_view call, int device) {
  const Lock lock(state().mutex);
  std::vector<NcclFault>& faults = state().faults;
  for (auto fault = faults.begin(); fault != faults.end(); ++fault) {
    if (fault->call != call || (fault->device >= 0 && fault->device != device)) continue;
    if (fault->after-- > 0) continue;
    const NcclFault taken = *fault;
    faults.erase(fault);
    return taken;
  }
  return std::nullopt;
}

ncclComm_t handle_of(std::shared_ptr<Comm> comm) {
  auto* const handle = new ncclComm{std::move(comm)};
  const Lock lock(state().mutex);
  state().handles.insert(handle);
  return handle;
}

std::shared_ptr<Comm> release(ncclComm_t handle) {
  {
    const Lock lock(state().mutex);
    if (state().handles.erase(handle) == 0)
      forbidden("NCCL double: a communicator that is not, or no longer, there");
  }
  std::shared_ptr<Comm> comm = std::move(handle->comm);
  delete handle;
  return comm;
}

Comm& live(ncclComm_t handle) {
  const Lock lock(state().mutex);
  if (!state().handles.contains(handle))
    forbidden("NCCL double: a communicator that is not, or no longer, there");
  return *handle->comm;
}

// What every call with a communicator begins with.
ncclResult_t begin(Comm& comm, const char* call) {
  if (const auto code = injected_fault(call)) return static_cast<ncclResult_t>(*code);
  const ncclResult_t now = comm.state();
  if (now == ncclInProgress)
    return refuse(ncclInvalidUsage,
                  std::string(call) + " on " + comm.name() +
                      " while a call before it is in progress: ask ncclCommGetAsyncError first");
  return now;
}

// ---- Making communicators. ----

// Unset fields as NCCL reads them.
bool read_config(const ncclConfig_t* given, ncclConfig_t& config) {
  config = NCCL_CONFIG_INITIALIZER;
  if (given == nullptr) return true;
  if (given->magic != config.magic || given->size != config.size) return false;
  config = *given;
  const auto is_wrong = [](int value, int least, int most) {
    return value != NCCL_CONFIG_UNDEF_INT && (value < least || value > most);
  };
  if (is_wrong(config.blocking, 0, 1) || is_wrong(config.minCTAs, 1, 64) || is_wrong(config.maxCTAs, 1, 64))
    return false;
  if (is_wrong(config.nvlsCTAs, 1, 64) || is_wrong(config.cgaClusterSize, 0, 8) ||
      is_wrong(config.splitShare, 0, 1) || is_wrong(config.CTAPolicy, 0, 2))
    return false;
  return config.minCTAs == NCCL_CONFIG_UNDEF_INT || config.maxCTAs == NCCL_CONFIG_UNDEF_INT ||
         config.minCTAs <= config.maxCTAs;
}

ncclResult_t make(ncclComm_t* out, int num_ranks, int rank, const ncclUniqueId* ids, int num_ids,
                  const ncclConfig_t* given, const char* call) {
  if (const auto code = injected_fault(call)) return static_cast<ncclResult_t>(*code);
  if (const auto fault = take_fault(call, current_device())) return fault->code;
  ncclConfig_t config;
  if (num_ranks < 1 || rank < 0 || rank >= num_ranks || num_ids < 1 || num_ids > num_ranks)
    return refuse(ncclInvalidArgument, std::string(call) + ": rank " + std::to_string(rank) + " of " +
                                           std::to_string(num_ranks) + " with " + std::to_string(num_ids) +
                                           " ids");
  if (!read_config(given, config))
    return refuse(ncclInvalidArgument, std::string(call) + ": a config with a field out of range");
  NcclFacts facts{.name = config.commName != nullptr ? config.commName : ids[0].internal,
                  .rank = rank,
                  .num_ranks = num_ranks,
                  .device = current_device(),
                  .num_ids = num_ids,
                  .config = config};
  auto comm = std::make_shared<Comm>(facts, ids[0].internal);
  *out = handle_of(comm);
  uint64_t hash = static_cast<uint64_t>(num_ids);
  for (int id = 0; id < num_ids; ++id)
    hash = hash * 31 + std::hash<std::string_view>{}({ids[id].internal, NCCL_UNIQUE_ID_BYTES});
  const auto init = [comm, hash] { return comm->start([comm, hash] { return comm->init(hash); }); };
  if (!comm->blocks() || group().depth == 0) return init();
  group().inits.push_back(init);
  return ncclSuccess;
}

ncclResult_t split(Comm& parent, int color, int key, ncclComm_t* out, const ncclConfig_t* given) {
  if (const ncclResult_t refused = begin(parent, "ncclCommSplit")) return refused;
  if (const auto fault = take_fault("ncclCommSplit", parent.device())) return fault->code;
  if (color < 0 && color != NCCL_SPLIT_NOCOLOR)
    return refuse(ncclInvalidArgument, "ncclCommSplit: color " + std::to_string(color));
  ncclConfig_t config = parent.facts().config;
  config.commName = nullptr;
  if (given != nullptr && !read_config(given, config))
    return refuse(ncclInvalidArgument, "ncclCommSplit: a config with a field out of range");
  *out = nullptr;
  return parent.start([&parent, color, key, config, out] {
    std::shared_ptr<Comm> made;
    const ncclResult_t result = parent.split(color, key, config, made);
    if (made != nullptr) *out = handle_of(std::move(made));
    return result;
  });
}

// ---- Calls. ----

// The smallest integer type that the double reduces is as NCCL's; fp8 it does not know.
ncclResult_t check_buffers(const Comm& comm, const char* call, const Range& send, const Range& receive,
                           std::size_t in_place_at) {
  const bool fits =
      check_range(send.pointer, send.num_bytes, comm.device(), std::string(call) + ": sendbuff") &&
      check_range(receive.pointer, receive.num_bytes, comm.device(), std::string(call) + ": recvbuff");
  if (!fits) return ncclInvalidArgument;
  const auto* const a = static_cast<const std::byte*>(send.pointer);
  const auto* const b = static_cast<const std::byte*>(receive.pointer);
  const bool overlap = a < b + receive.num_bytes && b < a + send.num_bytes;
  const bool sends_more = send.num_bytes > receive.num_bytes;
  const bool in_place = sends_more ? b == a + in_place_at : a == b + in_place_at;
  if (!overlap || in_place) return ncclSuccess;
  return refuse(ncclInvalidArgument, std::string(call) + ": the buffers overlap, but not as in place");
}

struct Collective {
  Kind kind;
  const void* send;
  void* receive;
  std::size_t count;
  ncclDataType_t type;
  int op = 0, root = 0;
};

ncclResult_t add_collective(const Collective& of, ncclComm_t handle, cudaStream_t stream) {
  Comm& comm = live(handle);
  const char* const call = name_of(of.kind);
  if (const ncclResult_t refused = begin(comm, call)) return refused;
  const std::size_t one = of.count * element_bytes(of.type);
  if (element_bytes(of.type) == 0 || of.op < 0 || of.op > ncclAvg || of.root < 0 ||
      of.root >= comm.num_ranks())
    return refuse(ncclInvalidArgument, std::string(call) + ": type " + std::to_string(of.type) + ", op " +
                                           std::to_string(of.op) + ", root " + std::to_string(of.root));
  if (device_of(stream) != comm.device())
    return refuse(ncclInvalidArgument, std::string(call) + ": the stream is of device " +
                                           std::to_string(device_of(stream)) +
                                           ", the communicator of device " + std::to_string(comm.device()));
  const std::size_t all = one * static_cast<std::size_t>(comm.num_ranks());
  const bool sends_all = of.kind == Kind::kReduceScatter || of.kind == Kind::kAllToAll;
  const bool receives_all = of.kind == Kind::kAllGather || of.kind == Kind::kAllToAll;
  const bool is_root = comm.rank() == of.root;
  const Range send{of.send, sends_all ? all : of.kind == Kind::kBroadcast && !is_root ? 0 : one};
  const Range receive{of.receive, receives_all ? all : of.kind == Kind::kReduce && !is_root ? 0 : one};
  const std::size_t at = sends_all != receives_all ? one * static_cast<std::size_t>(comm.rank()) : 0;
  if (const ncclResult_t refused = check_buffers(comm, call, send, receive, at)) return refused;
  const std::optional<NcclFault> fault = take_fault(call, comm.device());
  if (fault && fault->how == NcclFault::How::kFails) return fault->code;
  Work work{.call = {of.kind, of.type, of.op, of.root, of.count},
            .send = of.send,
            .receive = of.receive,
            .messages = {},
            .fault = fault};
  return add_call({comm.shared_from_this(), stream, std::move(work)});
}

ncclResult_t add_message(const Message& message, const char* call, ncclComm_t handle, cudaStream_t stream) {
  Comm& comm = live(handle);
  if (const ncclResult_t refused = begin(comm, call)) return refused;
  if (message.peer < 0 || message.peer >= comm.num_ranks())
    return refuse(ncclInvalidArgument, std::string(call) + ": peer " + std::to_string(message.peer) + " of " +
                                           std::to_string(comm.num_ranks()) + " ranks");
  if (device_of(stream) != comm.device())
    return refuse(ncclInvalidArgument, std::string(call) + ": the stream is of another device");
  if (!check_range(message.data, message.num_bytes, comm.device(), call)) return ncclInvalidArgument;
  const std::optional<NcclFault> fault = take_fault(call, comm.device());
  if (fault && fault->how == NcclFault::How::kFails) return fault->code;
  Work work;
  work.messages = {message};
  work.fault = fault;
  return add_call({comm.shared_from_this(), stream, std::move(work)});
}

}  // namespace

NcclSettings nccl_settings() {
  const Lock lock(state().mutex);
  return state().settings;
}

void configure_nccl(const NcclSettings& settings) {
  const Lock lock(state().mutex);
  state().settings = settings;
}

void inject_nccl(const NcclFault& fault) {
  const Lock lock(state().mutex);
  state().faults.push_back(fault);
}

void reset_nccl() {
  const Lock lock(state().mutex);
  state().faults.clear();
  state().settings = {};
}

std::vector<NcclFacts> live_communicators() {
  std::vector<NcclFacts> facts;
  for (const std::shared_ptr<Comm>& comm : all_comms()) facts.push_back(comm->facts());
  return facts;
}

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
  if (handle == nullptr || live(handle).state() == ncclInProgress) return last_error.c_str();
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
  const Lock lock(state().mutex);
  state().memory[*memory] = block;
  return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
  void* block = nullptr;
  {
    const Lock lock(state().mutex);
    const auto found = state().memory.find(memory);
    if (found != state().memory.end()) block = found->second;
    state().memory.erase(memory);
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
                                    int) {
  Comm& comm = live(handle);
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
