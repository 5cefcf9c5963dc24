// Waiting is on futexes, which work between processes and which ThreadSanitizer does not take for synchronisation; the
// edges that a collective does promise are announced (Meeting, Box).
#include "tests/emulated/nccl_comm.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <set>
#include <utility>

#include "tests/emulated/allocations.h"
#include "tests/emulated/control.h"
#include "tests/emulated/diagnosis.h"

namespace takt::emulated {
namespace {

constexpr long kNap_us = 50000;  // between looks at what ends a wait
constexpr std::size_t kMostNamed = 16;

// In the order in which they were made. Never destroyed: streams may outlive static objects.
struct Register {
  Mutex mutex;
  std::vector<std::weak_ptr<Comm>> comms;
};

Register& known() {
  static auto* const all = new Register;
  return *all;
}

}  // namespace

double now_s() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::vector<std::shared_ptr<Comm>> all_comms() {
  std::vector<std::shared_ptr<Comm>> alive;
  const Lock lock(known().mutex);
  std::erase_if(known().comms, [](const std::weak_ptr<Comm>& comm) { return comm.expired(); });
  for (const std::weak_ptr<Comm>& comm : known().comms)
    if (std::shared_ptr<Comm> strong = comm.lock()) alive.push_back(std::move(strong));
  return alive;
}

Comm::Comm(const NcclFacts& facts, std::string region_name)
    : facts_(facts),
      region_name_(std::move(region_name)),
      wanted_by_(static_cast<std::size_t>(facts.num_ranks)) {}

Comm::~Comm() {
  if (starter_.joinable()) starter_.join();
}

// ---- The host's calls. ----

ncclResult_t Comm::start(const std::function<ncclResult_t()>& body) {
  if (has_failed()) return state();
  if (blocks()) {
    const ncclResult_t result = body();
    if (result != ncclSuccess) state_ = result;
    return result;
  }
  if (starter_.joinable()) starter_.join();
  state_ = ncclInProgress;
  starter_ = std::thread([this, body] {
    const ncclResult_t result = body();
    int in_progress = ncclInProgress;
    state_.compare_exchange_strong(in_progress, result);
  });
  return ncclInProgress;
}

// All ranks come, and bring the same.
bool Comm::settle_on_host(const char* what, uint64_t agreed) {
  slot().agreed = agreed;
  slot().num_settled.fetch_add(1);
  {
    const Lock lock(mutex_);
    current_ = what;
  }
  if (!meet(region_->head().on_host)) return false;
  for (int other = 0; other < num_ranks(); ++other)
    if (region_->slot(other).agreed != agreed) {
      fail(ncclInvalidUsage, std::string(what) + ": ranks 0.." + std::to_string(num_ranks() - 1) +
                                 " brought different arguments, rank " + std::to_string(other) +
                                 " others than rank " + std::to_string(rank()));
      return false;
    }
  return meet(region_->head().on_host);  // before anyone changes what is compared
}

// Why all did not come: what another rank has found, or that this one was aborted.
ncclResult_t Comm::why_not() {
  const uint32_t code = region_->head().failed;
  return code == 0 ? ncclInternalError : static_cast<ncclResult_t>(code);
}

ncclResult_t Comm::init(uint64_t hash_of_ids) {
  region_ = Region::attach(region_name_, num_ranks());
  slot().process = ::getpid();
  slot().device = device();
  {
    const Lock lock(known().mutex);
    known().comms.push_back(weak_from_this());
  }
  const bool all_came = settle_on_host("ncclCommInitRank", hash_of_ids);
  if (rank() == 0 || !all_came) region_->unlink_name();
  if (!all_came) return why_not();
  std::set<std::pair<int, int>> devices;
  bool is_one_process = true, is_shared = false;
  for (int other = 0; other < num_ranks(); ++other) {
    const Slot& theirs = region_->slot(other);
    is_one_process = is_one_process && theirs.process == slot().process;
    is_shared = !devices.insert({theirs.process, theirs.device}).second || is_shared;
  }
  is_among_threads_ = is_one_process && !nccl_settings().goes_through_chunks;
  if (is_shared && nccl_settings().forbids_shared_device) {
    fail(ncclInvalidUsage, "ncclCommInitRank: duplicate device: two ranks of " + facts_.name +
                               " in one process use the same one, wanted one each");
    return ncclInvalidUsage;
  }
  return ncclSuccess;
}

ncclResult_t Comm::split(int color, int key, const ncclConfig_t& config, std::shared_ptr<Comm>& out) {
  slot().color = color;
  slot().key = key;
  if (!settle_on_host("ncclCommSplit", static_cast<uint64_t>(++num_splits_))) return why_not();
  std::vector<std::pair<int, int>> members;  // key, rank
  for (int other = 0; other < num_ranks(); ++other)
    if (region_->slot(other).color == color) members.emplace_back(region_->slot(other).key, other);
  if (!settle_on_host("ncclCommSplit", 0)) return why_not();
  if (color == NCCL_SPLIT_NOCOLOR) return ncclSuccess;
  std::sort(members.begin(), members.end());
  const auto mine = std::find(members.begin(), members.end(), std::pair(key, rank()));
  const std::string name = region_name_ + "." + std::to_string(num_splits_) + "." + std::to_string(color);
  NcclFacts facts{.name = config.commName != nullptr ? config.commName : name,
                  .rank = static_cast<int>(mine - members.begin()),
                  .num_ranks = static_cast<int>(members.size()),
                  .device = device(),
                  .config = config};
  auto made = std::make_shared<Comm>(facts, name);
  const ncclResult_t result = made->init(0);
  out = std::move(made);
  return result;
}

void Comm::wait_for_own_work() {
  while (broken(device()) == cudaSuccess) {  // a broken device runs nothing more
    uint64_t num_issued = 0;
    {
      const Lock lock(mutex_);
      num_issued = num_issued_;
    }
    const uint32_t finished = num_finished_;
    if (finished == static_cast<uint32_t>(num_issued)) return;
    demand_up_to(num_issued);
    futex_wait(num_finished_, finished, kNap_us);
  }
}

ncclResult_t Comm::finalize() {
  if (is_finalized_) return ncclInvalidUsage;
  is_finalized_ = true;
  wait_for_own_work();
  if (is_aborted_ || has_failed()) return ncclSuccess;
  if (!registered_.empty() || !windows_.empty())
    diagnose("ncclCommFinalize of " + facts_.name + ": " +
             std::to_string(registered_.size() + windows_.size()) + " buffers are still registered");
  return settle_on_host("ncclCommFinalize", 0) ? ncclSuccess : why_not();
}

ncclResult_t Comm::register_buffer(void* buffer, std::size_t num_bytes, bool is_window, void** handle) {
  const char* const call = is_window ? "ncclCommWindowRegister" : "ncclCommRegister";
  if (!check_range(buffer, num_bytes, device(), call)) return ncclInvalidArgument;
  if (is_window && reinterpret_cast<uintptr_t>(buffer) % NCCL_WIN_REQUIRED_ALIGNMENT != 0) {
    diagnose(std::string(call) + ": the buffer begins at a multiple of less than 4096 bytes");
    return ncclInvalidArgument;
  }
  if (is_window && !settle_on_host(call, num_bytes)) return why_not();
  const Lock lock(mutex_);
  *handle = reinterpret_cast<void*>(++num_handles_ * 16);  // no one may take it for the buffer
  (is_window ? windows_ : registered_)[*handle] = num_bytes;
  return ncclSuccess;
}

ncclResult_t Comm::deregister(void* handle, bool is_window) {
  const Lock lock(mutex_);
  if ((is_window ? windows_ : registered_).erase(handle) == 1) return ncclSuccess;
  diagnose(facts_.name + ": deregistering what is not registered");
  return ncclInvalidArgument;
}

NcclFacts Comm::facts() const {
  const Lock lock(mutex_);
  NcclFacts facts = facts_;
  facts.num_registered = registered_.size();
  facts.num_windows = windows_.size();
  facts.num_operations = num_issued_;
  return facts;
}

void Comm::begin_abort() {
  is_aborted_ = true;
  const Lock lock(mutex_);
  late_.reset();
}

// Peers keep waiting, as they do when a GPU is gone: nobody tells them.
void Comm::end_abort() {
  if (starter_.joinable()) starter_.join();
  wait_for_own_work();
}

ncclResult_t Comm::state() {
  std::shared_ptr<Batch> batch;
  {
    const Lock lock(mutex_);
    if (late_ != nullptr && late_->caller == std::this_thread::get_id()) batch = late_;
    if (late_ != nullptr && batch == nullptr) return ncclInProgress;
  }
  if (batch == nullptr) {
    if (region_ != nullptr && state_ == ncclSuccess) state_ = static_cast<int>(region_->head().failed.load());
    return static_cast<ncclResult_t>(state_.load());
  }
  const ncclResult_t result = launch(*batch);
  for (const Batch::Call& call : batch->calls) call.comm->set_late(nullptr);
  if (result != ncclSuccess) state_ = result;
  return ncclInProgress;
}

// Of asynchronous errors; what is in progress has not failed.
bool Comm::has_failed() const {
  const int state = state_;
  return (state != ncclSuccess && state != ncclInProgress) ||
         (region_ != nullptr && region_->head().failed != 0);
}

void Comm::set_late(std::shared_ptr<Batch> batch) {
  const Lock lock(mutex_);
  late_ = std::move(batch);
}

// ---- Waiting. ----

void Comm::fail(ncclResult_t code, const std::string& message) {
  uint32_t none = 0;
  if (region_->head().failed.compare_exchange_strong(none, static_cast<uint32_t>(code))) {
    message.copy(region_->head().message, sizeof(Region::Head::message) - 1);
    diagnose(message);
  }
  state_ = code;
}

// What a rank that does not come does instead, as far as this process knows: often another communicator.
std::string Comm::whereabouts(int absent) const {
  const Slot& theirs = region_->slot(absent);
  if (theirs.process != ::getpid()) return "";
  for (const std::shared_ptr<Comm>& comm : all_comms()) {
    if (comm->device() != theirs.device || comm->region_ == region_) continue;
    const Lock lock(comm->mutex_);
    if (!comm->current_.empty()) return " (in " + comm->current_ + " of " + comm->facts_.name + ")";
  }
  return "";
}

std::string Comm::absent_ranks() const {
  const Slot& mine = region_->slot(rank());
  std::string text;
  std::size_t num_named = 0;
  for (int other = 0; other < num_ranks(); ++other) {
    const Slot& theirs = region_->slot(other);
    if (theirs.sequence >= mine.sequence && theirs.num_settled >= mine.num_settled) continue;
    if (++num_named > kMostNamed) return text + ", ...";
    text += (text.empty() ? "" : ", ") + std::to_string(other) + whereabouts(other);
  }
  return text.empty() ? "none" : text;
}

bool Comm::sleep(std::atomic<uint32_t>& word, uint32_t seen, double waited_since_s,
                 const std::string& waits_for) {
  futex_wait(word, seen, kNap_us, true);
  if (word != seen) return true;
  if (is_aborted_) return false;
  if (const uint32_t code = region_->head().failed) {
    state_ = static_cast<int>(code);
    return false;
  }
  if (now_s() - waited_since_s < nccl_settings().watchdog_ms * 1e-3) return true;
  std::string current;
  {
    const Lock lock(mutex_);
    current = current_;
  }
  fail(ncclInternalError, facts_.name + ": rank " + std::to_string(rank()) + " waited " +
                              std::to_string(nccl_settings().watchdog_ms) + " ms in " + current + "; " +
                              (waits_for.empty() ? "not there: ranks " + absent_ranks() : waits_for));
  return false;
}

bool Comm::meet(Meeting& meeting) {
  const uint32_t generation = meeting.generation;
  meeting.edges[generation & 1].release();
  if (meeting.num_arrived.fetch_add(1) + 1 == static_cast<uint32_t>(num_ranks())) {
    meeting.num_arrived = 0;
    meeting.generation.fetch_add(1);
    futex_wake(meeting.generation, INT_MAX, true);
  } else {
    std::optional<WaitForPeers> waiting;
    if (is_on_stream()) waiting.emplace(&meeting.generation, generation);
    const double start_s = now_s();
    while (meeting.generation == generation)
      if (!sleep(meeting.generation, generation, start_s, "")) return false;
  }
  meeting.edges[generation & 1].acquire();
  if (const uint32_t code = region_->head().failed) state_ = static_cast<int>(code);
  return !is_aborted_ && region_->head().failed == 0;
}

}  // namespace takt::emulated
