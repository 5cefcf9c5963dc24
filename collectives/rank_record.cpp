// Records lie in POSIX shared memory and not in an MPI window: MPI frees its windows before the end of the
// run, and the wait for the last rank, in MPI_Finalize, is one that must end too.
#include "collectives/rank_record.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kRecordBytes = (sizeof(RankRecord) + kLineBytes - 1) / kLineBytes * kLineBytes;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free,
              "records are shared between processes");

[[noreturn]] void fail_to(const char* what, const std::string& name) {
  fail(Fault::kIo, "shared memory ", name, ": cannot ", what, ": ", std::strerror(errno),
       "\n  ranks of a host share some kilobytes of /dev/shm: is it there, and not full?");
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(number_); }
  int get() const { return number_; }

 private:
  int number_;
};

// Reserved, not only sized: a full /dev/shm is an error here and not a signal at the first write.
void* map_shared(const std::string& name, std::size_t num_bytes, bool creates) {
  const int number = ::shm_open(name.c_str(), O_RDWR | (creates ? O_CREAT | O_EXCL : 0), 0600);
  if (number < 0) fail_to(creates ? "create" : "open", name);
  const Descriptor file(number);
  if (creates && (errno = ::posix_fallocate(file.get(), 0, static_cast<off_t>(num_bytes))) != 0)
    fail_to("reserve", name);
  void* memory = ::mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) fail_to("map", name);
  return memory;
}

void* map_alone(std::size_t num_bytes) {
  void* memory = ::mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail_to("map", "of this process");
  return memory;
}

}  // namespace

RankRecord& RankRecord::open(int rank) {
  rank_.store(rank, std::memory_order_relaxed);
  pid_.store(::getpid(), std::memory_order_relaxed);
  thread_.store(::gettid(), std::memory_order_relaxed);
  state_.store(RankState::kRunning, std::memory_order_release);
  return *this;
}

void RankRecord::note_call_started(const Signature& call) {
  calls_.publish(call);
  is_in_call_.store(true, std::memory_order_release);
  note_progress();
}

void RankRecord::note_call_finished() {
  is_in_call_.store(false, std::memory_order_release);
  note_progress();
}

void RankRecord::note_activity(const Activity& activity) {
  activity_.publish(activity);
  note_progress();
}

void RankRecord::note_progress() {
  progress_.fetch_add(1, std::memory_order_release);
}

RankSnapshot RankRecord::snapshot() const {
  RankSnapshot snapshot;
  snapshot.rank = rank_.load(std::memory_order_relaxed);
  snapshot.pid = pid();
  snapshot.state = state();
  snapshot.is_in_call = is_in_call_.load(std::memory_order_acquire);
  snapshot.step = step_.load(std::memory_order_relaxed);
  snapshot.activity = activity_.read().newest;
  const auto calls = calls_.read();
  snapshot.call = calls.newest;
  snapshot.finished = snapshot.is_in_call ? calls.before : calls.newest;
  snapshot.has_finished = calls.number - (snapshot.is_in_call && calls.number > 0 ? 1 : 0);
  return snapshot;
}

HostBoard::HostBoard(const std::string& name, int num_ranks, bool creates)
    : num_ranks_(num_ranks), num_bytes_(kLineBytes + static_cast<std::size_t>(num_ranks) * kRecordBytes) {
  TAKT_ASSERT(num_ranks >= 1, "a host with ", num_ranks, " ranks");
  memory_ = name.empty() ? map_alone(num_bytes_) : map_shared(name, num_bytes_, creates);
  if (!creates) return;
  new (memory_) Head;
  for (int r = 0; r < num_ranks; ++r) new (&rank(r)) RankRecord;
}

HostBoard::~HostBoard() {
  ::munmap(memory_, num_bytes_);
}

void HostBoard::unlink(const std::string& name) {
  ::shm_unlink(name.c_str());
}

RankRecord& HostBoard::rank(int local_rank) {
  std::byte* begin = static_cast<std::byte*>(memory_) + kLineBytes;
  return *reinterpret_cast<RankRecord*>(begin + static_cast<std::size_t>(local_rank) * kRecordBytes);
}

bool HostBoard::claim_report() {
  return !head().is_claimed.exchange(true, std::memory_order_acq_rel);
}

bool HostBoard::is_claimed() const {
  return head().is_claimed.load(std::memory_order_acquire);
}

void HostBoard::set_reported() {
  head().is_reported.store(true, std::memory_order_release);
}

bool HostBoard::is_reported() const {
  return head().is_reported.load(std::memory_order_acquire);
}

}  // namespace takt
