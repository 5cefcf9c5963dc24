// Calls are launched in up to three phases, because an all-reduce by domains is three calls of NCCL that use each other's
// results, and calls of one NCCL group run at the same time.
#include "collectives/nccl_rank.h"

#include <algorithm>
#include <utility>

#include "collectives/nccl_communicator.h"

namespace takt {
namespace {

constexpr double kEnd_s = 60;  // for the other ranks to come to the end

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  TAKT_CUDA(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

// Closes NCCL's group also where a call in it is refused, or the thread's later calls would all become part of it.
template <class Calls>
void in_nccl_group(const Calls& calls) {
  TAKT_NCCL(ncclGroupStart());
  try {
    calls();
  } catch (...) {
    ncclGroupEnd();
    throw;
  }
  TAKT_NCCL(ncclGroupEnd());
}

template <class Body>
void naming(const Signature& call, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    throw Error(error.fault(), concat("rank ", call.run_rank, ": ", to_string(call), ": ", error.what()));
  }
}

}  // namespace

NcclRank::NcclRank(const NcclSettings& settings, int run_rank, CallLog& log)
    : settings_(settings), log_(log), stream_(StreamPriority::kHigh), monitor_(settings_, run_rank) {}

// ---- Calls ----

void NcclRank::queue(const NcclCall& call) {
  calls_.push_back(call);
  if (depth_ == 0) launch();
}

void NcclRank::launch_together(const std::function<void()>& calls) {
  ++depth_;
  try {
    calls();
  } catch (...) {
    if (--depth_ == 0) calls_.clear();
    throw;
  }
  if (--depth_ == 0) launch();
}

void NcclRank::launch() {
  try {
    int num_phases = 1;
    for (const NcclCall& call : calls_)
      num_phases = std::max(num_phases, call.group->num_phases(call.signature));
    for (int phase = 0; phase < num_phases && !calls_.empty(); ++phase) launch_phase(phase);
    track_launched();
    calls_.clear();
  } catch (const Error& error) {
    calls_.clear();
    monitor_.fail_with(error);  // peers have what this rank has not
    throw;
  }
}

void NcclRank::launch_phase(int phase) {
  monitor_.make_calls([&] {
    in_nccl_group([&] {
      for (const NcclCall& call : calls_) naming(call.signature, [&] { call.group->issue(call, phase); });
    });
  });
  // NCCL launches from a thread of its own: what is queued on the stream before that is done would run ahead.
  for (const NcclConnection* connection : connections_)
    naming(calls_.front().signature,
           [&] { monitor_.settle(*connection, "launching", settings_.call_timeout_s); });
}

// One event a stream. Calls that are captured run with the graph, if ever.
void NcclRank::track_launched() {
  for (std::size_t i = 0; i < calls_.size(); ++i) {
    const cudaStream_t stream = calls_[i].stream;
    const auto is_on_stream = [&](const NcclCall& call) { return call.stream == stream; };
    const auto begin = calls_.begin() + static_cast<std::ptrdiff_t>(i);
    if (is_capturing(stream)) captured_.push_back(calls_[i].signature);
    if (std::any_of(calls_.begin(), begin, is_on_stream) || is_capturing(stream)) continue;
    std::vector<Signature> together;
    for (const NcclCall& call : calls_)
      if (is_on_stream(call)) together.push_back(call.signature);
    monitor_.track(together, stream);
  }
}

void NcclRank::wait(cudaStream_t stream) {
  monitor_.require_peers();
  const CudaEvent end;
  TAKT_CUDA(cudaEventRecord(end.get(), stream));
  wait_until([&] { return end.is_done(); });
}

// What the rank waits for is shown to the watchdog, since the thread may wait as long as in a call of a CPU backend.
void NcclRank::wait_until(const std::function<bool()>& is_done) {
  const std::string call = monitor_.oldest_call();
  log_.note_progress({.doing = call.empty() ? "the GPU" : concat("the GPU: ", call)}, true);
  monitor_.wait_until(is_done);
  log_.note_progress({.doing = "queueing on the GPU"});
}

// ---- Connections ----

// Groups are made while the GPU has nothing of ours to do: NCCL allocates, which waits for the GPU, which may wait for a
// peer that is here already.
void NcclRank::connect(NcclConnection& connection, const NcclConnection* parent,
                       const std::function<ncclResult_t(ncclComm_t*)>& start) {
  monitor_.wait_for_calls();
  monitor_.make_calls([&] { TAKT_NCCL(start(&connection.made)); });
  // A split is carried out by the communicator that is split, which then writes the new handle.
  if (parent != nullptr) monitor_.settle(*parent, "splitting the group", settings_.connect_timeout_s);
  if (connection.made == nullptr) return;  // alone in its group
  monitor_.add(connection, connection.made);
  connections_.push_back(&connection);
  monitor_.settle(connection, "connecting", settings_.connect_timeout_s);
  for (const Memory& memory : memory_) register_on(connection, memory);
}

void NcclRank::disconnect(NcclConnection& connection) noexcept {
  std::erase(connections_, &connection);
  try {
    if (!monitor_.is_open(connection)) return;
    monitor_.wait_for_calls();
    deregister(connection);
    monitor_.make_calls([&] { TAKT_NCCL(ncclCommFinalize(connection.comm)); });
    monitor_.settle(connection, "ending", kEnd_s);
    const ncclComm_t comm = monitor_.remove(connection);
    if (comm != nullptr) ncclCommDestroy(comm);
  } catch (const Error& error) {
    monitor_.fail_with(error);
  }
}

// ---- Memory ----

void NcclRank::register_memory(void* memory, std::size_t num_bytes) {
  if (settings_.registration == NcclSettings::Registration::kNone || num_bytes == 0) return;
  memory_.push_back({memory, num_bytes});
  for (NcclConnection* connection : connections_) register_on(*connection, memory_.back());
}

// NCCL may write the handle when the call has long returned.
void NcclRank::register_on(NcclConnection& connection, const Memory& memory) {
  connection.memory.push_back(std::make_unique<void*>(nullptr));
  void** handle = connection.memory.back().get();
  monitor_.make_calls([&] {
    if (settings_.registration == NcclSettings::Registration::kLocal)
      TAKT_NCCL(ncclCommRegister(connection.comm, memory.begin, memory.num_bytes, handle));
    else
      TAKT_NCCL(ncclCommWindowRegister(connection.comm, memory.begin, memory.num_bytes,
                                       reinterpret_cast<ncclWindow_t*>(handle), NCCL_WIN_COLL_SYMMETRIC));
  });
  monitor_.settle(connection, "registering memory", settings_.connect_timeout_s);
}

void NcclRank::deregister(NcclConnection& connection) {
  const bool is_local = settings_.registration == NcclSettings::Registration::kLocal;
  for (const std::unique_ptr<void*>& handle : connection.memory) {
    if (*handle == nullptr) continue;  // NCCL had no use for it
    monitor_.make_calls([&] {
      if (is_local)
        TAKT_NCCL(ncclCommDeregister(connection.comm, *handle));
      else
        TAKT_NCCL(ncclCommWindowDeregister(connection.comm, static_cast<ncclWindow_t>(*handle)));
    });
    monitor_.settle(connection, "forgetting memory", kEnd_s);
  }
  connection.memory.clear();
}

}  // namespace takt
