// Behind libnccl's symbols: handles, checks of arguments, faults that tests ask for.
#include "tests/emulated/nccl_calls.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "tests/emulated/allocations.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/nccl_reduce.h"

namespace takt::emulated {
namespace {

struct State {
  Mutex mutex;
  NcclSettings settings;
  std::vector<NcclFault> faults;
  std::set<ncclComm_t> handles;
};

State& state() {
  static auto* const all = new State;
  return *all;
}

thread_local std::string error_of_thread;

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

}  // namespace

ncclResult_t refuse(ncclResult_t code, const std::string& message) {
  diagnose(message);
  error_of_thread = message;
  return code;
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

ncclResult_t begin(Comm& comm, const char* call) {
  if (const auto code = injected_fault(call)) return static_cast<ncclResult_t>(*code);
  const ncclResult_t now = comm.state();
  if (now == ncclInProgress)
    return refuse(ncclInvalidUsage,
                  std::string(call) + " on " + comm.name() +
                      " while a call before it is in progress: ask ncclCommGetAsyncError first");
  return now;
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

const char* last_refusal() {
  return error_of_thread.c_str();
}

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
