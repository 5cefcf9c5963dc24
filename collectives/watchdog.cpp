// Watchdog: a thread a process looks at the records of its host's ranks (rank_record.h), a few times within
// the timeout, and fires when
//   - a rank that waits for nobody has shown no progress for the timeout: it is the cause; or
//   - no rank of the run has, each being in a call: one of them is stopped there, or they do not fit.
// A rank that waits is no reason to fire while another one moves on: long phases of one rank are no hangs.
//
// Progress is: a call began or ended, a note (Communicator::note_progress), or bytes that the rank's thread
// read or wrote. The last spares the code of checkpoints and exports all notes, and tells a slow file system
// from a dead one.
//
// Ranks of one host see each other in shared memory, so that also a rank all of whose threads are stopped is
// named, exactly. Hosts leave each other files in the run directory (host_files.h): the simplest channel that
// needs neither MPI, whose thread is in the hang, nor a socket of our own. Before there is a run directory,
// each host speaks for itself.
//
// When it fires it uses no MPI and no malloc, and the watching thread no file system: locks of all three may
// be held by the thread that hangs. Files are the business of a second thread, waited for with a deadline.
// _exit and not MPI_Abort ends the process; the launcher then ends the others and passes on the code.
#include "collectives/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "collectives/thread_status.h"
#include "core/base/error.h"

namespace takt {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kExitCode = static_cast<int>(Fault::kPeer);
constexpr double kShortestTick_s = 0.005, kLongestTick_s = 0.25;
constexpr double kLongestBeat_s = 30;
constexpr double kSilent_s = 0.5;     // without a heartbeat: the process does not run
constexpr double kGather_s = 0.6;     // for other hosts' last words
constexpr double kFirstHost_s = 0.2;  // by which the first host's report comes before others'
constexpr double kSave_s = 0.3;
constexpr double kAwait_s = 3;  // for the report of another process

double tick_s(double timeout_s) {
  return std::clamp(timeout_s / 40, kShortestTick_s, kLongestTick_s);
}

double beat_s(double timeout_s) {
  return std::min(timeout_s / 8, kLongestBeat_s);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void sleep_s(double time_s) {
  std::this_thread::sleep_for(std::chrono::duration<double>(time_s));
}

void append_two_digits(TextBuffer& text, std::int64_t number) {
  text << (number < 10 ? "0" : "") << number;
}

// "incident-2026-11-23T12-30-05", UTC. gmtime may read the time zone's file, with malloc.
void append_incident(TextBuffer& text) {
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(now - day);
  text << "incident-" << std::int64_t{static_cast<int>(date.year())} << '-';
  append_two_digits(text, static_cast<unsigned>(date.month()));
  text << '-';
  append_two_digits(text, static_cast<unsigned>(date.day()));
  text << 'T';
  append_two_digits(text, time.hours().count());
  text << '-';
  append_two_digits(text, time.minutes().count());
  text << '-';
  append_two_digits(text, time.seconds().count());
}

// Never touched before it is needed, and so costs no memory until then.
std::span<RankSnapshot> map_snapshots(int num_ranks) {
  const auto num = static_cast<std::size_t>(num_ranks);
  void* memory = ::mmap(nullptr, num * sizeof(RankSnapshot), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(Fault::kMemory, "watchdog: no memory for reports: ", std::strerror(errno));
  return {static_cast<RankSnapshot*>(memory), num};
}

}  // namespace

Watchdog::Watchdog(HostBoard& board, const HostPlace& place, WatchdogOptions options)
    : board_(board),
      place_(place),
      options_(std::move(options)),
      timeout_s_(options_.timeout_s),
      ranks_(static_cast<std::size_t>(board.num_ranks())),
      heartbeats_(ranks_.size()),
      num_io_bytes_(ranks_.size()),
      mine_(ranks_.size()) {
  if (place_.num_hosts > 1) all_ = map_snapshots(place_.num_ranks);
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // threads inherit it
  scribe_ = std::thread([this] { serve(); });
  watcher_ = std::thread([this] { watch(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
  }
  changed_.notify_all();
  watcher_.join();
  scribe_.join();
  for (int r = 0; r < board_.num_ranks(); ++r)
    if (board_.rank(r).pid() == ::getpid()) board_.rank(r).close();
  if (!all_.empty()) ::munmap(all_.data(), all_.size_bytes());
}

void Watchdog::set_run_directory(const std::string& directory) {
  run_directory_.publish(path_text(directory));
}

void Watchdog::set_last_checkpoint(const std::string& name) {
  last_checkpoint_.publish(path_text(name));
}

void Watchdog::prepare_run_directory(const std::string& directory) {
  const std::filesystem::path files = std::filesystem::path(directory) / "watch";
  std::error_code error;
  std::filesystem::remove_all(files, error);
  if (!error) std::filesystem::create_directories(files, error);
  if (error) fail(Fault::kIo, files.string(), ": cannot be made anew: ", error.message());
}

// ---- The watching thread. ----

void Watchdog::watch() {
  Clock::time_point before = Clock::now();
  while (pause(tick_s(timeout_s_))) {
    const double elapsed_s = seconds_since(before);
    before = Clock::now();
    observe(elapsed_s);
    if (!is_hung()) continue;
    fire();
    return;
  }
}

bool Watchdog::pause(double time_s) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::duration<double>(time_s), [&] { return stops_; });
}

void Watchdog::observe(double elapsed_s) {
  std::uint64_t sum = 0;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    RankRecord& rank = board_.rank(static_cast<int>(r));
    if (rank.pid() == ::getpid()) observe_own(r);
    ranks_[r].observe(rank.progress(), elapsed_s);
    heartbeats_[r].observe(rank.heartbeat(), elapsed_s);
    sum += rank.progress();
  }
  host_.observe(sum, elapsed_s);
  since_beat_s_ += elapsed_s;
  until_consult_s_ -= elapsed_s;
  const bool has_peers = place_.num_hosts > 1 && run_directory_.read().number > 0;
  if (!has_peers || !leads() || since_beat_s_ < beat_s(timeout_s_)) return;
  if (ask(Task::kBeat, 0)) since_beat_s_ = 0;
}

// Bytes are looked at where there is no other sign, so that a busy rank pays nothing for it.
void Watchdog::observe_own(std::size_t local_rank) {
  RankRecord& rank = board_.rank(static_cast<int>(local_rank));
  rank.beat();
  if (ranks_[local_rank].time_s() < tick_s(timeout_s_)) return;
  const std::uint64_t num_bytes = io_bytes_of(rank.pid(), rank.thread());
  if (num_bytes != num_io_bytes_[local_rank] && num_io_bytes_[local_rank] != 0) rank.note_progress();
  num_io_bytes_[local_rank] = num_bytes;
}

// The lowest rank whose process runs speaks for its host.
bool Watchdog::leads() const {
  for (std::size_t r = 0; r < ranks_.size(); ++r)
    if (heartbeats_[r].time_s() < kSilent_s) return board_.rank(static_cast<int>(r)).pid() == ::getpid();
  return true;
}

bool Watchdog::is_hung() {
  if (board_.is_claimed()) return true;  // whoever reports beats no more: nobody is to speak in its place
  bool any_runs = false;
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    const RankRecord& rank = board_.rank(static_cast<int>(r));
    if (rank.state() != RankState::kRunning) continue;
    any_runs = true;
    if (ranks_[r].time_s() >= timeout_s_ && !rank.waits()) return true;
  }
  return any_runs && host_.time_s() >= timeout_s_ && all_wait_in_vain();
}

// Another host may be busy with what the ranks of this one wait for. A file system that does not answer is no
// reason to go on waiting.
bool Watchdog::all_wait_in_vain() {
  if (place_.num_hosts == 1) return true;
  if (run_directory_.read().number == 0) return host_.time_s() >= 2 * timeout_s_;
  if (until_consult_s_ > 0 || !leads()) return false;
  if (!ask(Task::kConsult, kGather_s)) return true;
  const double missing_s = timeout_s_ - 2 * tick_s(timeout_s_) - freshest_s_;
  until_consult_s_ = std::max(missing_s, tick_s(timeout_s_));
  return missing_s <= 0;
}

void Watchdog::take_snapshots() {
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    const RankRecord& rank = board_.rank(static_cast<int>(r));
    mine_[r] = rank.snapshot();
    mine_[r].idle_s = ranks_[r].time_s();
    mine_[r].is_silent = heartbeats_[r].time_s() >= kSilent_s;
    mine_[r].process_state = state_of(rank.pid(), rank.thread());
    mine_[r].host = place_.name;
  }
}

std::string_view Watchdog::compose(std::string_view saved) {
  const PathText directory = run_directory_.read().newest, checkpoint = last_checkpoint_.read().newest;
  TextBuffer text(report_);
  const bool is_whole = place_.num_hosts == 1 || directory[0] != '\0';
  write_hang_report(text,
                    {.timeout_s = timeout_s_,
                     .exit_code = kExitCode,
                     .num_ranks = is_whole ? place_.num_ranks : static_cast<std::int64_t>(mine_.size()),
                     .run_directory = directory.data(),
                     .saved = saved,
                     .last_checkpoint = checkpoint.data()},
                    known_);
  return text.view();
}

void Watchdog::fire() {
  if (!board_.claim_report()) return await_report();
  const PathText directory = run_directory_.read().newest;
  take_snapshots();
  known_ = mine_;
  if (place_.num_hosts > 1 && directory[0] != '\0' && ask(Task::kGather, kGather_s + 2 * kFirstHost_s)) {
    if (others_report_) return await_report();
    known_ = all_.first(num_gathered_);
  }
  std::string_view saved;
  std::array<char, 48> name = {};
  TextBuffer incident(std::span<char>(name).first(name.size() - 1));
  append_incident(incident);
  incident_ = path_text(directory.data(), incident.view());
  report_path_ = path_text(incident_.data(), "report.txt");
  report_text_ = compose(report_path_.data());
  if (ask(Task::kSave, kSave_s) && is_saved_) saved = report_path_.data();
  if (saved.empty()) report_text_ = compose(saved);
  std::string_view rest = report_text_;
  while (!rest.empty()) {
    const ssize_t written = ::write(options_.error_file, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  board_.set_reported();
  options_.end(kExitCode);
}

// The launcher ends all ranks once one has ended: nobody ends before the report is out.
void Watchdog::await_report() {
  const Clock::time_point start = Clock::now();
  while (!board_.is_reported() && seconds_since(start) < kAwait_s) sleep_s(kShortestTick_s);
  options_.end(kExitCode);
}

// ---- Files: what the watching thread asks for, and the second thread does. ----

// False: not done in time, or the thread is still busy with the task before. deadline 0: does not wait.
bool Watchdog::ask(Task task, double deadline_s) {
  std::unique_lock lock(mutex_);
  const auto is_free = [&] { return task_ == Task::kNone; };
  const auto deadline = Clock::now() + std::chrono::duration<double>(deadline_s);
  if (!changed_.wait_until(lock, deadline, is_free)) return false;
  if (task == Task::kBeat || task == Task::kConsult) {
    lock.unlock();
    take_snapshots();
    idle_s_ = host_.time_s();
    lock.lock();
  }
  task_ = task;
  changed_.notify_all();
  return deadline_s == 0 || changed_.wait_until(lock, deadline, is_free);
}

void Watchdog::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stops_ || task_ != Task::kNone; });
    if (task_ == Task::kNone) return;
    const Task task = task_;
    lock.unlock();
    do_task(task);
    lock.lock();
    task_ = Task::kNone;
    changed_.notify_all();
  }
}

void Watchdog::do_task(Task task) {
  const PathText directory = run_directory_.read().newest;
  switch (task) {
    case Task::kBeat:
      write_host_file(directory, place_.host, mine_, idle_s_, false);
      break;
    case Task::kConsult:
      consult();
      break;
    case Task::kGather:
      gather();
      break;
    case Task::kSave:
      is_saved_ = ::mkdir(incident_.data(), 0777) == 0 &&
                  write_whole_file(report_path_, std::as_bytes(std::span(report_text_)), true);
      break;
    case Task::kNone:
      break;
  }
}

// How long the most active of the other hosts has been idle. Ages are differences of modification times.
void Watchdog::consult() {
  const PathText directory = run_directory_.read().newest;
  freshest_s_ = timeout_s_;
  if (!write_host_file(directory, place_.host, mine_, idle_s_, false)) return;
  const HostNews ours = read_host_file(directory, place_.host, {});
  for (int host = 0; host < place_.num_hosts && freshest_s_ >= timeout_s_ / 2; ++host) {
    if (host == place_.host) continue;
    const HostNews news = read_host_file(directory, host, {});
    if (news.has_fired) {
      freshest_s_ = timeout_s_;
      return;
    }
    if (news.is_known)
      freshest_s_ = std::min(freshest_s_, std::max(0.0, ours.written_s - news.written_s) + news.idle_s);
  }
}

// Every host that fires says so; whoever then makes the file `watch/report` first reports for all.
void Watchdog::gather() {
  const PathText directory = run_directory_.read().newest;
  others_report_ = false;
  write_host_file(directory, place_.host, mine_, timeout_s_, true);
  const Clock::time_point start = Clock::now();
  int num_fired = 0;
  do {
    num_fired = read_all_hosts(directory);
    if (num_fired < place_.num_hosts) sleep_s(kShortestTick_s);
  } while (num_fired < place_.num_hosts && seconds_since(start) < kGather_s);
  if (place_.host > 0) sleep_s(kFirstHost_s);
  const PathText claim = path_text(directory.data(), "watch/report");
  others_report_ = !write_whole_file(claim, {}, true) && errno == EEXIST;
}

// Puts what is known of all ranks into all_, in rising order. Returns how many hosts have fired.
int Watchdog::read_all_hosts(const PathText& directory) {
  int num_fired = 0;
  num_gathered_ = 0;
  const HostNews ours = read_host_file(directory, place_.host, {});
  for (int host = 0; host < place_.num_hosts; ++host) {
    const std::span<RankSnapshot> room = all_.subspan(num_gathered_);
    const HostNews news = read_host_file(directory, host, room);
    if (!news.is_known) continue;
    num_fired += news.has_fired ? 1 : 0;
    num_gathered_ += news.num_ranks;
    if (news.has_fired) continue;
    for (RankSnapshot& rank : room.first(news.num_ranks)) {
      rank.is_silent = true;  // an old word, and no last one
      rank.process_state = '\0';
      rank.idle_s += std::max(0.0, ours.written_s - news.written_s);
    }
  }
  std::sort(all_.begin(), all_.begin() + static_cast<std::ptrdiff_t>(num_gathered_),
            [](const RankSnapshot& a, const RankSnapshot& b) { return a.rank < b.rank; });
  return num_fired;
}

}  // namespace takt
