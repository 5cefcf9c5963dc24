// The thread wakes a few times within the deadline. It shares one lock with the rank's thread, so that no connection is
// aborted in the middle of a call; the aborting itself, which waits for the GPU, is done outside of it.
#include "collectives/nccl_monitor.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace takt {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kShortestTick_s = 0.002, kLongestTick_s = 0.25;
constexpr std::size_t kMostCandidates = 32;  // calls that an error names
constexpr int kNumSpins = 16;                // polls before a waiting thread begins to sleep between them
constexpr double kShortestPause_s = 20e-6, kLongestPause_s = 5e-3;

double tick_s(const NcclSettings& settings) {
  return std::clamp(settings.call_timeout_s / 40, kShortestTick_s, kLongestTick_s);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int current_device() {
  int device = 0;
  TAKT_CUDA(cudaGetDevice(&device));
  return device;
}

// Lets the processor go between polls, for a small part of what was waited already: no wait becomes much longer, and a
// long one costs no processor.
class Backoff {
 public:
  void pause() {
    if (++num_polls_ < kNumSpins) return std::this_thread::yield();
    const double pause_s = std::clamp(waited_s() / 32, kShortestPause_s, kLongestPause_s);
    std::this_thread::sleep_for(std::chrono::duration<double>(pause_s));
  }
  double waited_s() const { return seconds_since(start_); }

 private:
  Clock::time_point start_ = Clock::now();
  int num_polls_ = 0;
};

// In one group, because a call of one connection may wait on the GPU behind a call of another: each ends only when both
// are told to.
void abort_all(std::span<const ncclComm_t> comms) {
  if (comms.empty()) return;
  ncclGroupStart();
  for (const ncclComm_t comm : comms) ncclCommAbort(comm);
  ncclGroupEnd();
}

std::optional<Error> error_of_code(cudaError_t code) {
  try {
    require_cuda(code, "cudaEventQuery(landed)");
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  }
}

}  // namespace

NcclMonitor::NcclMonitor(const NcclSettings& settings, int run_rank)
    : settings_(settings), run_rank_(run_rank), device_(current_device()) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread inherits it: signals are the rank's
  thread_ = std::thread([this] { watch(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

NcclMonitor::~NcclMonitor() {
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// A query of an event is forbidden to all threads while one captures a graph, unless they say that they know.
void NcclMonitor::watch() {
  cudaSetDevice(device_);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  const auto tick = std::chrono::duration<double>(tick_s(settings_));
  Clock::time_point last = Clock::now();
  std::unique_lock lock(mutex_);
  while (!stops_) {
    changed_.wait_for(lock, tick, [this] { return stops_; });
    const double elapsed_s = seconds_since(last);
    last = Clock::now();
    lock.unlock();
    look(elapsed_s);
    lock.lock();
  }
}

void NcclMonitor::look(double elapsed_s) {
  std::optional<Error> error;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    error = error_of_connections();
    collect_flights();
    if (flights_.empty()) {
      stillness_ = {};
    } else {
      stillness_.observe(flights_.front().number, elapsed_s);
      const cudaError_t code = cudaEventQuery(flights_.front().landed.get());
      if (!error && code != cudaErrorNotReady) error = error_of_code(code);
      if (!error && stillness_.time_s() >= settings_.call_timeout_s)
        error = Error(
            Fault::kPeer,
            concat("rank ", run_rank_, ": ", flight_text(), " has not finished within ",
                   settings_.call_timeout_s, " s", candidates_text(),
                   "\n  a rank of the group is lost, or has not made this call: the first error of another "
                   "rank names the cause"));
    }
  }
  if (error) fail_with(*error);
}

// With the lock held, as all below that do not say otherwise.
std::optional<Error> NcclMonitor::error_of_connections() {
  for (const NcclConnection* connection : connections_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t answer = ncclCommGetAsyncError(connection->comm, &state);
    if (answer != ncclSuccess) state = answer;
    if (state == ncclSuccess || state == ncclInProgress) continue;
    return Error(Fault::kPeer, concat("rank ", run_rank_, ": group ", connection->group, ": NCCL: ",
                                      ncclGetErrorString(state), "\n  ", ncclGetLastError(connection->comm),
                                      "\n  unfinished: ", flights_.empty() ? "nothing" : flight_text()));
  }
  return std::nullopt;
}

void NcclMonitor::collect_flights() {
  const auto has_landed = [this](Flight& flight) {
    if (cudaEventQuery(flight.landed.get()) != cudaSuccess) return false;
    events_.push_back(std::move(flight.landed));
    return true;
  };
  std::erase_if(flights_, has_landed);
}

std::string NcclMonitor::flight_text() const {
  const Flight& flight = flights_.front();
  std::string text = to_string(flight.calls.front());
  if (flight.calls.size() > 1)
    text += concat(", launched together with ", flight.calls.size() - 1, " others,");
  return text;
}

// Of calls that are launched together nobody can tell which have finished.
std::string NcclMonitor::candidates_text() const {
  const std::vector<Signature>& calls = flights_.front().calls;
  std::string text;
  for (std::size_t i = 1; i < std::min(calls.size(), kMostCandidates); ++i)
    text += concat(i == 1 ? "\n  it, or one of these:" : "", "\n    ", to_string(calls[i]));
  if (calls.size() > kMostCandidates) text += concat("\n    and ", calls.size() - kMostCandidates, " more");
  return text;
}

std::string NcclMonitor::oldest_call() {
  const std::lock_guard lock(mutex_);
  collect_flights();
  return flights_.empty() ? "" : flight_text();
}

void NcclMonitor::throw_failure() const {
  const std::lock_guard lock(mutex_);
  throw Error(*failure_);
}

// Without the lock, since aborting waits for the GPU.
void NcclMonitor::fail_with(const Error& error) noexcept {
  std::vector<ncclComm_t> comms;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = error;
    has_failed_.store(true, std::memory_order_release);
    for (NcclConnection* connection : connections_)
      if (connection->comm != nullptr) comms.push_back(std::exchange(connection->comm, nullptr));
    connections_.clear();
  }
  abort_all(comms);
}

void NcclMonitor::make_calls(const std::function<void()>& calls) {
  require_peers();
  const std::lock_guard lock(mutex_);
  if (failure_) throw Error(*failure_);
  calls();
}

void NcclMonitor::settle(const NcclConnection& connection, std::string_view what, double timeout_s) {
  Backoff backoff;
  while (true) {
    ncclResult_t state = ncclSuccess;
    make_calls([&] { TAKT_NCCL(ncclCommGetAsyncError(connection.comm, &state)); });
    if (state == ncclSuccess) return;
    if (state != ncclInProgress || backoff.waited_s() > timeout_s) {
      const std::string why = state == ncclInProgress ? concat("is not done after ", timeout_s, " s")
                                                      : concat("failed: ", ncclGetErrorString(state));
      fail_with(Error(Fault::kPeer,
                      concat("rank ", run_rank_, ": group ", connection.group, ": ", what, " ", why,
                             "\n  run with NCCL_DEBUG=INFO to see between which hosts; NCCL_SOCKET_IFNAME "
                             "chooses the network")));
      require_peers();
    }
    backoff.pause();
  }
}

void NcclMonitor::add(NcclConnection& connection, ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  connection.comm = comm;
  connections_.push_back(&connection);
}

ncclComm_t NcclMonitor::remove(NcclConnection& connection) {
  const std::lock_guard lock(mutex_);
  std::erase(connections_, &connection);
  return std::exchange(connection.comm, nullptr);
}

bool NcclMonitor::is_open(const NcclConnection& connection) const {
  const std::lock_guard lock(mutex_);
  return connection.comm != nullptr;
}

void NcclMonitor::track(std::span<const Signature> calls, cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  collect_flights();
  if (events_.empty()) events_.emplace_back();
  Flight flight{
      .calls = {calls.begin(), calls.end()}, .number = ++num_flights_, .landed = std::move(events_.back())};
  events_.pop_back();
  TAKT_CUDA(cudaEventRecord(flight.landed.get(), stream));
  flights_.push_back(std::move(flight));
}

// Polls, rather than sleep in the driver, so that a stream that no abort can free does not hold the host too.
void NcclMonitor::wait_until(const std::function<bool()>& is_done) {
  require_peers();
  Backoff backoff;
  while (true) {
    bool done = false;
    try {
      done = is_done();
    } catch (const Error&) {
      require_peers();  // says more than what it did to the GPU
      throw;
    }
    require_peers();
    if (done) return;
    backoff.pause();
  }
}

void NcclMonitor::wait_for_calls() {
  Backoff backoff;
  while (!oldest_call().empty()) {
    require_peers();
    backoff.pause();
  }
}

}  // namespace takt
