// NcclMonitor: ends the waits of one rank that nothing else would end.
//
// A collective on a GPU whose peer is lost runs forever, and with it every wait of the host for the stream behind it. The
// monitor's thread asks NCCL for errors and looks whether calls finish; when they do not, it aborts all connections of the
// rank, which is the only way to make the GPU go on, and keeps the error for the rank's thread.
#pragma once

#include <nccl.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "collectives/nccl_settings.h"
#include "collectives/signature.h"
#include "collectives/watchdog.h"
#include "core/base/error.h"
#include "core/device/cuda/event.h"

namespace takt {

// One group's part of NCCL. Stays where it is, since NCCL's own threads write to it.
struct NcclConnection {
  std::string group;
  ncclComm_t made = nullptr;  // NCCL's to write until it is settled
  ncclComm_t comm = nullptr;  // the monitor's: null before it is made and after it is aborted
  std::vector<std::unique_ptr<void*>> memory;  // handles or windows of what was registered
};

class NcclMonitor {
 public:
  // Watches the calls of rank `run_rank` on the current device.
  NcclMonitor(const NcclSettings& settings, int run_rank);
  NcclMonitor(const NcclMonitor&) = delete;
  NcclMonitor& operator=(const NcclMonitor&) = delete;
  ~NcclMonitor();

  // Runs `calls` of NCCL while no connection can be aborted. Throws the failure instead, if there is one.
  void make_calls(const std::function<void()>& calls);
  // Waits until NCCL has finished what was started on `connection`. Throws kPeer after `timeout_s`; `what` names it then.
  void settle(const NcclConnection& connection, std::string_view what, double timeout_s);

  // From now on errors of `connection` are seen, and a failure aborts it.
  void add(NcclConnection& connection, ncclComm_t comm);
  // Gives it back: the handle, or null if it was aborted.
  ncclComm_t remove(NcclConnection& connection);

  // These calls were launched together on `stream` and are to finish.
  void track(std::span<const Signature> calls, cudaStream_t stream);
  // Waits until `is_done` says so, or for all tracked calls. Throw the failure if it comes first.
  void wait_until(const std::function<bool()>& is_done);
  void wait_for_calls();
  // The oldest call that has not finished, for reports; empty: all have.
  std::string oldest_call();

  void require_peers() const {
    if (has_failed_.load(std::memory_order_acquire)) throw_failure();
  }
  // Aborts all connections; from now on `error` is what everybody gets. The first one counts.
  void fail_with(const Error& error) noexcept;
  // Whether it is connected and not aborted.
  bool is_open(const NcclConnection& connection) const;

 private:
  // Calls that were launched together and have not been seen to finish.
  struct Flight {
    std::vector<Signature> calls;
    std::size_t number = 0;
    CudaEvent landed;
  };

  void watch();
  void look(double elapsed_s);
  std::optional<Error> error_of_connections();
  void collect_flights();
  std::string flight_text() const;
  std::string candidates_text() const;
  [[noreturn]] void throw_failure() const;

  const NcclSettings& settings_;
  int run_rank_;
  int device_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<NcclConnection*> connections_;
  std::vector<Flight> flights_;    // in the order of launch
  std::vector<CudaEvent> events_;  // not in use
  std::size_t num_flights_ = 0;    // since the start
  Stillness stillness_;            // of the oldest flight
  std::optional<Error> failure_;
  std::atomic<bool> has_failed_ = false;
  bool stops_ = false;
  std::thread thread_;
};

}  // namespace takt
