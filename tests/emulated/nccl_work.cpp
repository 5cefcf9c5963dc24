// How operations of a communicator are queued, ordered and demanded. They run in the order in which they were issued,
// whatever their streams, as NCCL makes them.
#include <algorithm>
#include <utility>

#include "tests/emulated/control.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/nccl_comm.h"
#include "tests/emulated/nccl_reduce.h"

namespace takt::emulated {
namespace {

constexpr long kNap_us = 20000;

thread_local bool runs_operation = false;

bool is_with(const Work& work, int peer) {
  return std::any_of(work.messages.begin(), work.messages.end(),
                     [&](const Message& message) { return message.peer == peer; });
}

// What the operation reads and writes of its own rank's memory.
void add_ranges(Operation& operation, const Work& work, int rank, int num_ranks) {
  const CallRecord& call = work.call;
  const std::size_t one = call.count * element_bytes(static_cast<ncclDataType_t>(call.type));
  const std::size_t all = one * static_cast<std::size_t>(num_ranks);
  const bool sends_all = call.kind == Kind::kReduceScatter || call.kind == Kind::kAllToAll;
  const bool receives_all = call.kind == Kind::kAllGather || call.kind == Kind::kAllToAll;
  for (const Message& message : work.messages)
    (message.is_send ? operation.reads : operation.writes).push_back({message.data, message.num_bytes});
  if (call.kind == Kind::kMessages) return;
  if (call.kind != Kind::kBroadcast || rank == call.root)
    operation.reads.push_back({work.send, sends_all ? all : one});
  if (call.kind != Kind::kReduce || rank == call.root)
    operation.writes.push_back({work.receive, receives_all ? all : one});
}

}  // namespace

bool is_on_stream() {
  return runs_operation;
}

ncclResult_t Comm::queue(cudaStream_t stream, std::shared_ptr<const Work> work) {
  Operation operation{.name = name_of(work->call.kind), .run = {}, .reads = {}, .writes = {}, .prepare = {}};
  add_ranges(operation, *work, rank(), num_ranks());
  operation.prepare = [comm = shared_from_this(), work](const Ticket& ticket) {
    return comm->prepare(work, ticket);
  };
  return enqueue(stream, std::move(operation)) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

// At each occurrence, in the order of the stream.
Run Comm::prepare(const std::shared_ptr<const Work>& work, const Ticket& ticket) {
  uint64_t sequence = 0;
  bool wanted = false;
  {
    const Lock lock(mutex_);
    sequence = ++num_issued_;
    queued_[sequence] = {ticket, work};
    wanted = is_wanted(*work, sequence);
  }
  if (wanted) demand(ticket);
  return [comm = shared_from_this(), work, sequence] {
    comm->run(*work, sequence);
    return cudaSuccess;
  };
}

bool Comm::is_wanted(const Work& work, uint64_t sequence) {
  if (wanted_ >= sequence || slot().wanted >= sequence) return true;
  return std::any_of(work.messages.begin(), work.messages.end(), [&](const Message& message) {
    return wanted_by_[static_cast<std::size_t>(message.peer)];
  });
}

void Comm::run(const Work& work, uint64_t sequence) {
  runs_operation = true;
  if (is_turn_of(sequence)) execute(work, sequence);
  runs_operation = false;
  {
    const Lock lock(mutex_);
    queued_.erase(sequence);
    current_.clear();
  }
  num_finished_ = static_cast<uint32_t>(sequence);
  futex_wake(num_finished_);
}

// Also one that is ended early ends in its turn, so that the number finished is right.
bool Comm::is_turn_of(uint64_t sequence) {
  const auto before = static_cast<uint32_t>(sequence - 1);
  if (num_finished_ != before) {
    const WaitForPeers waiting;
    for (uint32_t finished = num_finished_; finished != before; finished = num_finished_) {
      demand_up_to(sequence - 1);
      futex_wait(num_finished_, finished, kNap_us);
    }
  }
  return !is_aborted_ && !has_failed();
}

bool Comm::stay_for_ever() {
  const WaitForPeers waiting;
  std::atomic<uint32_t> never{0};
  while (sleep(never, 0, now_s(), "")) {
  }
  return false;
}

void Comm::execute(const Work& work, uint64_t sequence) {
  {
    const Lock lock(mutex_);
    current_ = "operation " + std::to_string(sequence) + ", " + name_of(work.call.kind);
  }
  if (work.fault && work.fault->how == NcclFault::How::kNeverFinishes) {
    stay_for_ever();
    return;
  }
  if (work.fault && work.fault->how == NcclFault::How::kBreaks) {
    state_ = work.fault->code;
    return;
  }
  demand_peers(work, sequence);
  if (work.call.kind == Kind::kMessages) {
    slot().sequence = sequence;
    run_messages(*this, work);
  } else {
    run_collective(*this, work, sequence);
  }
}

// ---- Who waits for whom, under schedules that run nothing before someone does. ----

void Comm::demand_peers(const Work& work, uint64_t sequence) {
  if (settings().schedule == Schedule::kEager) return;
  const bool is_message = work.call.kind == Kind::kMessages;
  for (int other = 0; other < num_ranks() && !is_message; ++other) {
    std::atomic<uint32_t>& wanted = region_->slot(other).wanted;
    for (uint32_t seen = wanted; seen < sequence;)
      if (wanted.compare_exchange_weak(seen, static_cast<uint32_t>(sequence))) break;
  }
  for (const std::shared_ptr<Comm>& comm : all_comms()) {
    if (comm->region_ != region_ || comm.get() == this) continue;
    if (!is_message)
      comm->demand_up_to(sequence);
    else if (is_with(work, comm->rank()))
      comm->demand_messages_with(rank());
  }
}

void Comm::demand_up_to(uint64_t sequence) {
  std::vector<Ticket> tickets;
  {
    const Lock lock(mutex_);
    wanted_ = std::max(wanted_, sequence);
    for (const auto& [number, queued] : queued_)
      if (number <= sequence) tickets.push_back(queued.ticket);
  }
  for (const Ticket& ticket : tickets) demand(ticket);
}

void Comm::demand_messages_with(int peer) {
  std::vector<Ticket> tickets;
  {
    const Lock lock(mutex_);
    wanted_by_[static_cast<std::size_t>(peer)] = true;
    for (const auto& [number, queued] : queued_)
      if (is_with(*queued.work, peer)) tickets.push_back(queued.ticket);
  }
  for (const Ticket& ticket : tickets) demand(ticket);
}

}  // namespace takt::emulated
