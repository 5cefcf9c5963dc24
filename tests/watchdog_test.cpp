// The watchdog on ranks that are threads, on hosts that are boards of one process, and the text of its report.
#include "collectives/watchdog.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <semaphore>
#include <sstream>

#include "collectives/local.h"
#include "core/base/error.h"
#include "tests/rank_samples.h"

namespace takt {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kDeadline = std::chrono::seconds(20);  // of what must happen; nothing waits that long

TEST(Stillness, AddsUpAndEndsWithAChange) {
  Stillness still;
  for (int i = 0; i < 8; ++i) still.observe(4, 0.25);
  EXPECT_DOUBLE_EQ(still.time_s(), 1.75);  // the first look only learns the counter
  still.observe(5, 0.25);
  EXPECT_EQ(still.time_s(), 0);
}

TEST(Stillness, DoesNotCountTimeInWhichTheObserverWasStopped) {
  Stillness still;
  still.observe(4, 0.25);
  still.observe(4, 3600);
  EXPECT_LE(still.time_s(), 1);
}

TEST(Published, GivesTheNewestAndTheOneBefore) {
  Published<std::array<std::uint64_t, 8>> published;
  EXPECT_EQ(published.read().number, 0u);
  for (std::uint64_t n = 1; n <= 9; ++n) {
    std::array<std::uint64_t, 8> value;
    value.fill(n);
    published.publish(value);
    EXPECT_EQ(published.read().number, n);
    EXPECT_EQ(published.read().newest[7], n);
    EXPECT_EQ(published.read().before[7], n - 1);
  }
}

TEST(Published, IsNeverTorn) {
  Published<std::array<std::uint64_t, 8>> published;
  std::atomic<bool> stops = false;
  std::thread writer([&] {
    std::array<std::uint64_t, 8> value;
    for (std::uint64_t n = 1; n <= 20000; ++n) {
      value.fill(n);
      published.publish(value);
      if (n % 4 == 0) std::this_thread::yield();
    }
    stops = true;
  });
  std::uint64_t num_whole = 0;
  while (!stops) {
    const auto pair = published.read();
    const bool is_whole = std::all_of(pair.newest.begin(), pair.newest.end(),
                                      [&](std::uint64_t word) { return word == pair.newest[0]; });
    num_whole += is_whole && pair.newest[0] == pair.number ? 1 : 0;
    if (pair.newest[0] == pair.number) {
      EXPECT_TRUE(is_whole);
    }
  }
  writer.join();
  EXPECT_EQ(published.read().newest[3], 20000u);
}

// A watchdog's end, and what it printed.
class Ended {
 public:
  Ended() { EXPECT_EQ(::pipe(pipe_), 0); }
  Ended(const Ended&) = delete;
  Ended& operator=(const Ended&) = delete;
  ~Ended() {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }

  WatchdogOptions options(double timeout_s) {
    return {.timeout_s = timeout_s, .error_file = pipe_[1], .end = [this](int code) {
              code_ = code;
              at_ = Clock::now();
              has_ended_.release();
            }};
  }
  bool wait() { return has_ended_.try_acquire_for(kDeadline); }
  bool has_ended() const { return code_ != 0; }
  int code() const { return code_; }
  Clock::time_point at() const { return at_; }
  std::string text() const {
    std::array<char, 16384> memory;
    const ssize_t num_bytes = ::read(pipe_[0], memory.data(), memory.size());
    return std::string(memory.data(), static_cast<std::size_t>(std::max<ssize_t>(num_bytes, 0)));
  }

 private:
  int pipe_[2] = {};
  std::atomic<int> code_ = 0;
  Clock::time_point at_;
  std::counting_semaphore<8> has_ended_{0};
};

HostPlace place(int host, int num_hosts, int num_ranks) {
  HostPlace here{.host = host, .num_hosts = num_hosts, .num_ranks = num_ranks};
  put(here.name, concat("node-", host));
  return here;
}

TEST(Watchdog, EndsARunInWhichOneRankNeverComes) {
  constexpr double kTimeout_s = 0.4;
  Ended ended;
  HostBoard board(2);
  Watchdog watchdog(board, place(0, 1, 2), ended.options(kTimeout_s));
  const auto start = Clock::now();
  run_ranks(
      2,
      [&](Communicator& comm) {
        std::vector<float> gradient(3000);
        comm.all_reduce(gradient.data(), 3000, DType::kF32, ReduceOp::kSum, {"before"});
        comm.note_progress({.doing = "a lonely thought", .step = 4});
        if (comm.rank() == 1) {
          EXPECT_TRUE(ended.wait());
        }
        comm.all_reduce(gradient.data(), 3000, DType::kF32, ReduceOp::kSum, {"gradient"});
      },
      &board);
  ASSERT_EQ(ended.code(), 79);
  const double took_s = std::chrono::duration<double>(ended.at() - start).count();
  EXPECT_GE(took_s, kTimeout_s);
  const std::string text = ended.text();
  EXPECT_EQ(text.find("error: no progress for 0.4 s at step 4 (exit 79)\n"), 0u) << text;
  EXPECT_NE(text.find("waiting   rank 0   all_reduce #1 'gradient' 12.0 kB, group world\n"), text.npos)
      << text;
  EXPECT_NE(text.find("missing   rank 1 (host node-0, pid "), text.npos) << text;
  EXPECT_NE(text.find("last finished all_reduce #0 'before' in group world; "), text.npos) << text;
  EXPECT_NE(text.find("host thread in a lonely thought for "), text.npos) << text;
}

TEST(Watchdog, LetsRanksWaitForOneThatMovesOn) {
  constexpr double kTimeout_s = 1;
  Ended ended;
  HostBoard board(3);
  {
    Watchdog watchdog(board, place(0, 1, 3), ended.options(kTimeout_s));
    run_ranks(
        3,
        [&](Communicator& comm) {
          // The last rank takes its time, but says so.
          const auto end = Clock::now() + std::chrono::duration<double>(2.5 * kTimeout_s);
          while (comm.rank() == 2 && Clock::now() < end) {
            comm.note_progress({.doing = "a long evaluation"});
            std::this_thread::yield();
          }
          comm.barrier({"after it"});
        },
        &board);
  }
  EXPECT_FALSE(ended.has_ended()) << ended.text();
}

TEST(Watchdog, TakesWrittenBytesForProgress) {
  constexpr double kTimeout_s = 1;
  if (std::ifstream("/proc/thread-self/io").peek() == EOF) GTEST_SKIP() << "this kernel counts no bytes";
  Ended ended;
  HostBoard board(1);
  {
    Watchdog watchdog(board, place(0, 1, 1), ended.options(kTimeout_s));
    run_ranks(
        1,
        [&](Communicator&) {
          std::ofstream file("/dev/null");
          const auto end = Clock::now() + std::chrono::duration<double>(2.5 * kTimeout_s);
          while (Clock::now() < end) file << "byte" << std::flush;
        },
        &board);
  }
  EXPECT_FALSE(ended.has_ended()) << ended.text();
}

TEST(Watchdog, LeavesRanksAloneThatHaveEnded) {
  Ended ended;
  HostBoard board(1);
  Watchdog watchdog(board, place(0, 1, 1), ended.options(0.05));
  run_ranks(
      1, [](Communicator& comm) { comm.barrier({"one"}); }, &board);
  std::binary_semaphore never(0);
  EXPECT_FALSE(never.try_acquire_for(std::chrono::milliseconds(300)));  // six timeouts
  EXPECT_FALSE(ended.has_ended());
}

// Two hosts: two boards and two watchdogs, which see each other's files only.
class Hosts : public testing::Test {
 protected:
  Hosts() {
    std::string name = testing::TempDir() + "takt-hosts-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    Watchdog::prepare_run_directory(directory_);
  }
  ~Hosts() override { std::filesystem::remove_all(directory_); }

  // Rank `host` of host `host`, in a call or not.
  void start(int host, bool is_in_call, double timeout_s) {
    const auto h = static_cast<std::size_t>(host);
    boards_[h].emplace(1);
    RankRecord& rank = boards_[h]->rank(0);
    rank.open(host);
    if (is_in_call) rank.note_call_started(a_call(9, "w", 250, "world"));
    watchdogs_[h] = std::make_unique<Watchdog>(*boards_[h], place(host, 2, 2), ended_[h].options(timeout_s));
    watchdogs_[h]->set_run_directory(directory_);
  }
  std::string saved_report() const {
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      if (entry.path().filename().string().starts_with("incident-")) {
        std::ostringstream text;
        text << std::ifstream(entry.path() / "report.txt").rdbuf();
        return text.str();
      }
    return "";
  }

  std::string directory_;
  std::array<std::optional<HostBoard>, 2> boards_;
  std::array<Ended, 2> ended_;
  std::array<std::unique_ptr<Watchdog>, 2> watchdogs_;
};

TEST_F(Hosts, ReportOnceAndTogether) {
  start(0, true, 0.5);
  start(1, false, 0.5);
  ASSERT_TRUE(ended_[0].wait());
  ASSERT_TRUE(ended_[1].wait());
  EXPECT_EQ(ended_[0].code(), 79);
  EXPECT_EQ(ended_[1].code(), 79);
  const std::string text = saved_report();
  EXPECT_NE(text.find("waiting   rank 0   reduce_scatter #9 'w' 1.0 kB, group world\n"), text.npos) << text;
  EXPECT_NE(text.find("missing   rank 1 (host node-1, pid "), text.npos) << text;
}

TEST_F(Hosts, NameAHostThatNoLongerSpeaks) {
  start(1, false, 0.5);
  const auto seen = Clock::now() + kDeadline;
  while (!std::filesystem::exists(directory_ + "/watch/host-1") && Clock::now() < seen)
    std::this_thread::yield();
  watchdogs_[1].reset();  // as if the host had died
  start(0, true, 0.5);
  ASSERT_TRUE(ended_[0].wait());
  const std::string text = ended_[0].text();
  EXPECT_NE(text.find("missing   rank 1 (host node-1, pid "), text.npos) << text;
  EXPECT_NE(text.find("process silent"), text.npos) << text;
}

TEST_F(Hosts, AreSpokenForByOneWatchdogAlone) {
  start(0, true, 0.5);
  Ended other;
  Watchdog second(*boards_[0], place(0, 2, 2), other.options(0.5));
  second.set_run_directory(directory_);
  ASSERT_TRUE(ended_[0].wait());  // after waiting for host 1, longer than a process may be silent
  ASSERT_TRUE(other.wait());
  const std::string text = saved_report();
  EXPECT_NE(text.find("waiting   rank 0   reduce_scatter #9"), text.npos) << text;
  EXPECT_NE(text.find("missing   rank 1: nothing heard from their hosts"), text.npos) << text;
}

TEST_F(Hosts, WaitForOneThatMovesOn) {
  start(0, true, 1);
  start(1, false, 1);
  const auto end = Clock::now() + std::chrono::milliseconds(2500);
  while (Clock::now() < end) {
    boards_[1]->rank(0).note_progress();
    std::this_thread::yield();
  }
  EXPECT_FALSE(ended_[0].has_ended()) << ended_[0].text();
  EXPECT_FALSE(ended_[1].has_ended()) << ended_[1].text();
}

}  // namespace
}  // namespace takt
