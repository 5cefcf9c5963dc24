// Watchdog: ends a run that no longer moves with exit code 79 and a report of who waits and who is missing.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "collectives/hang_report.h"
#include "collectives/host_files.h"
#include "collectives/rank_record.h"

namespace takt {

// How long a counter has stood still, as seen by an observer that may itself be stopped for a while: a look
// that comes late counts as one second at most, so that a run resumed after an hour is not an hour idle.
class Stillness {
 public:
  void observe(std::uint64_t counter, double elapsed_s) {
    time_s_ = counter == counter_ ? time_s_ + std::min(elapsed_s, kMostElapsed_s) : 0;
    counter_ = counter;
  }
  double time_s() const { return time_s_; }

 private:
  static constexpr double kMostElapsed_s = 1;
  std::uint64_t counter_ = 0;
  double time_s_ = 0;
};

struct WatchdogOptions {
  double timeout_s = 600;
  int error_file = STDERR_FILENO;
  // Ends the process; for tests, which return from it. Called on the watchdog's thread.
  std::function<void(int)> end = [](int exit_code) { ::_exit(exit_code); };
};

// One a process, over the ranks of its host. Starts two threads, which take no signals.
class Watchdog {
 public:
  // `board` is borrowed. The ranks of this process have opened their records.
  Watchdog(HostBoard& board, const HostPlace& place, WatchdogOptions options = {});
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  // The rank's thread calls these at any time.
  void set_timeout(double timeout_s) { timeout_s_ = timeout_s; }
  // Where reports go, and where hosts see each other. The root calls prepare_run_directory before any rank sets it.
  void set_run_directory(const std::string& directory);
  void set_last_checkpoint(const std::string& name);
  // Removes what an earlier run in that directory left for its watchdogs. Throws kIo.
  static void prepare_run_directory(const std::string& directory);

 private:
  // What the second thread does: everything that touches a file system, which may be what hangs.
  enum class Task { kNone, kBeat, kConsult, kGather, kSave };

  void watch();
  void observe(double elapsed_s);
  void observe_own(std::size_t local_rank);
  bool is_hung();
  bool all_wait_in_vain();
  bool leads() const;
  void fire();
  void await_report();
  void take_snapshots();
  std::string_view compose(std::string_view saved);
  bool pause(double time_s);  // false: the watchdog is to stop

  bool ask(Task task, double deadline_s);
  void serve();
  void do_task(Task task);
  void consult();
  void gather();
  int read_all_hosts(const PathText& directory);

  HostBoard& board_;
  HostPlace place_;
  WatchdogOptions options_;
  std::atomic<double> timeout_s_;
  Published<PathText> run_directory_, last_checkpoint_;

  // Of the watching thread.
  std::vector<Stillness> ranks_, heartbeats_;  // by local rank
  std::vector<std::uint64_t> num_io_bytes_;    // of the thread of a rank of this process
  Stillness host_;
  std::uint64_t host_progress_ = 0;
  double since_beat_s_ = 0, until_consult_s_ = 0;
  std::vector<RankSnapshot> mine_;
  std::span<RankSnapshot> known_;  // what the report is made of
  std::array<char, 16384> report_;
  std::string_view report_text_;
  PathText incident_ = {}, report_path_ = {};

  // Between the two threads. What a task uses is touched by the watching thread only while there is none.
  std::mutex mutex_;
  std::condition_variable changed_;
  Task task_ = Task::kNone;
  bool stops_ = false;
  std::span<RankSnapshot> all_;  // of the run; empty where there is one host
  std::size_t num_gathered_ = 0;
  double idle_s_ = 0;  // of this host
  bool is_saved_ = false, others_report_ = false;
  double freshest_s_ = 0;  // the shortest time that another host has been idle
  std::thread scribe_, watcher_;
};

}  // namespace takt
