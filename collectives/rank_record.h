// RankRecord: what others can see of a rank while it cannot speak: the call it is in, what it does between
// calls, and a counter of its progress. Written by the rank's thread, read by watchdogs of the same host.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "collectives/signature.h"

namespace takt {

// The newest value of one writer and the one before it. Neither side waits for the other, so that a reader
// gets an answer also where the writer was stopped in the middle of a write.
template <class T>
class Published {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0);
  using Words = std::array<std::uint64_t, sizeof(T) / sizeof(std::uint64_t)>;
  static constexpr std::size_t kNumSlots = 4;  // two are read, one is written, one for a writer ahead by one
  static constexpr int kMostTries = 16;

 public:
  struct Pair {
    T newest = {}, before = {};  // as T{} where there is none yet
    std::uint64_t number = 0;    // of the newest: how many were published
  };

  void publish(const T& value) {
    const std::uint64_t number = number_.load(std::memory_order_relaxed) + 1;
    const Words words = std::bit_cast<Words>(value);
    for (std::size_t i = 0; i < words.size(); ++i)
      slots_[number % kNumSlots][i].store(words[i], std::memory_order_release);
    number_.store(number, std::memory_order_release);
  }

  Pair read() const {
    Pair pair;
    for (int tries = 0; tries < kMostTries; ++tries) {
      pair.number = number_.load(std::memory_order_acquire);
      if (pair.number > 0) pair.newest = slot(pair.number);
      if (pair.number > 1) pair.before = slot(pair.number - 1);
      if (number_.load(std::memory_order_acquire) - pair.number <= 1) break;
    }
    return pair;
  }

 private:
  T slot(std::uint64_t number) const {
    Words words;
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = slots_[number % kNumSlots][i].load(std::memory_order_acquire);
    return std::bit_cast<T>(words);
  }

  std::atomic<std::uint64_t> number_ = 0;
  std::array<std::array<std::atomic<std::uint64_t>, sizeof(T) / sizeof(std::uint64_t)>, kNumSlots> slots_ =
      {};
};

// What a rank's thread does between calls.
struct Activity {
  std::array<char, 63> what = {};  // ends in a zero; cut if longer
  bool waits = false;              // for other ranks, as in a call: such a rank is not the cause of a hang
};

enum class RankState : std::uint32_t { kAbsent, kRunning, kEnded };

// A rank at one moment, as plain bytes: what reports are made of, and what hosts leave each other in files.
struct RankSnapshot {
  std::int32_t rank = -1;  // over the whole run; -1: not started
  std::int32_t pid = 0;
  RankState state = RankState::kAbsent;
  bool is_in_call = false;
  bool is_silent = false;     // the process's watchdog does not run either
  char process_state = '\0';  // as in /proc/PID/stat: T stopped, D blocked in the kernel; zero: not known
  bool is_told = false;       // scratch of the report
  std::int64_t step = 0;      // being computed, from 1; 0: not yet
  double idle_s = 0;          // since the last sign of progress
  Signature call = {};        // where is_in_call
  Signature finished = {};    // the last call that finished, where has_finished
  std::uint64_t has_finished = 0;
  Activity activity = {};
  std::array<char, 64> host = {};

  bool waits() const { return is_in_call || activity.waits; }
};
static_assert(std::is_trivially_copyable_v<RankSnapshot>);

// Lies in memory that the processes of a host share.
class RankRecord {
 public:
  // The rank's own thread calls these, in any order between open and close. They cost tens of nanoseconds.
  RankRecord& open(int rank);
  void close() { state_.store(RankState::kEnded, std::memory_order_release); }
  void note_call_started(const Signature& call);
  void note_call_finished();
  void note_activity(const Activity& activity);
  void note_step(std::int64_t step) { step_.store(step, std::memory_order_relaxed); }
  void note_progress();

  // The watchdog of the rank's process calls it, to show that the process runs.
  void beat() { heartbeat_.fetch_add(1, std::memory_order_relaxed); }

  RankState state() const { return state_.load(std::memory_order_acquire); }
  std::int32_t pid() const { return pid_.load(std::memory_order_relaxed); }
  std::int32_t thread() const { return thread_.load(std::memory_order_relaxed); }
  std::uint64_t progress() const { return progress_.load(std::memory_order_acquire); }
  std::uint64_t heartbeat() const { return heartbeat_.load(std::memory_order_relaxed); }
  bool waits() const { return is_in_call_.load(std::memory_order_acquire) || activity_.read().newest.waits; }
  // idle_s, is_silent, process_state and host are the watchdog's to fill in.
  RankSnapshot snapshot() const;

 private:
  std::atomic<RankState> state_ = RankState::kAbsent;
  std::atomic<std::int32_t> rank_ = -1, pid_ = 0, thread_ = 0;
  std::atomic<bool> is_in_call_ = false;
  std::atomic<std::uint64_t> progress_ = 0;  // grows with every sign of progress
  std::atomic<std::uint64_t> heartbeat_ = 0;
  std::atomic<std::int64_t> step_ = 0;
  Published<Signature> calls_;
  Published<Activity> activity_;
};

// The records of one host's ranks, and who of them reports.
class HostBoard {
 public:
  // Of this process alone, for ranks that are threads.
  explicit HostBoard(int num_ranks) : HostBoard("", num_ranks, true) {}
  // Shared memory of that name ("/takt-..."): one process of the host creates it, the others open it after
  // that, and once all have it its name is unlinked. Throws kIo.
  HostBoard(const std::string& name, int num_ranks, bool creates);
  HostBoard(const HostBoard&) = delete;
  HostBoard& operator=(const HostBoard&) = delete;
  ~HostBoard();
  static void unlink(const std::string& name);

  int num_ranks() const { return num_ranks_; }
  RankRecord& rank(int local_rank);

  // True for the first caller on this host: it reports.
  bool claim_report();
  bool is_claimed() const;
  void set_reported();
  bool is_reported() const;

 private:
  struct Head {
    std::atomic<bool> is_claimed = false;
    std::atomic<bool> is_reported = false;
  };
  Head& head() const { return *static_cast<Head*>(memory_); }

  int num_ranks_;
  std::size_t num_bytes_;
  void* memory_ = nullptr;
};

}  // namespace takt
