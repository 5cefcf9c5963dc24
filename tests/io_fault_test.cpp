// What the system refuses. This program has its own open, write, fsync, ... in front of the C library's, so
// that the n-th call, whichever it is, fails as a signal, a disk or a network file system makes it fail. A
// save with a fault at any call ends well or with exit 74, and never leaves a visible checkpoint that does not load.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <functional>

#include "collectives/local.h"
#include "core/base/error.h"
#include "core/state/durable_file.h"
#include "tests/sharded_state.h"

namespace {

enum class Kind { kNone, kError, kShortWrite, kLostWrite };
struct Plan {
  Kind kind = Kind::kNone;
  int error = 0;
  long at = 0;            // the number of the call that fails; -1: every second one
  const char* only = "";  // the only function that counts, if not empty
};
// Globals, since the C library's functions take no context. One rank at a time.
Plan plan;
std::atomic<long> num_calls = 0;

// True if this call is to fail as planned.
bool is_due(const char* function, bool can_fail_so) {
  if (plan.kind == Kind::kNone || !can_fail_so) return false;
  if (plan.only[0] != '\0' && std::string_view(plan.only) != function) return false;
  const long number = num_calls++;
  return plan.at < 0 ? number % 2 == 0 : number == plan.at;
}
bool fails(const char* function) {
  if (!is_due(function, plan.kind == Kind::kError)) return false;
  errno = plan.error;
  return true;
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int do_open(const char* name, const char* file, int flags, mode_t mode) {
  return fails("open") ? -1 : next<int(const char*, int, ...)>(name)(file, flags, mode);
}

}  // namespace

extern "C" {

int open(const char* file, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return do_open("open", file, flags, mode);
}
ssize_t write(int descriptor, const void* data, size_t num_bytes) {
  static auto* const real = next<ssize_t(int, const void*, size_t)>("write");
  if (fails("write")) return -1;
  if (descriptor > 2 && is_due("write", plan.kind == Kind::kShortWrite && num_bytes > 1))
    return real(descriptor, data, num_bytes / 2);
  if (descriptor > 2 && is_due("write", plan.kind == Kind::kLostWrite && num_bytes > 0)) {
    const std::string zeros(num_bytes, '\0');  // acknowledged, and not what was given
    return real(descriptor, zeros.data(), num_bytes);
  }
  return real(descriptor, data, num_bytes);
}
ssize_t read(int descriptor, void* data, size_t num_bytes) {
  return fails("read") ? -1 : next<ssize_t(int, void*, size_t)>("read")(descriptor, data, num_bytes);
}
int fsync(int descriptor) {
  return fails("fsync") ? -1 : next<int(int)>("fsync")(descriptor);
}
int rename(const char* from, const char* to) noexcept {
  return fails("rename") ? -1 : next<int(const char*, const char*)>("rename")(from, to);
}
int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned flags) noexcept {
  return fails("renameat2") ? -1
                            : next<int(int, const char*, int, const char*, unsigned)>("renameat2")(
                                  from_directory, from, to_directory, to, flags);
}
int mkdir(const char* name, mode_t mode) noexcept {
  return fails("mkdir") ? -1 : next<int(const char*, mode_t)>("mkdir")(name, mode);
}
int flock(int descriptor, int operation) noexcept {
  return fails("flock") ? -1 : next<int(int, int)>("flock")(descriptor, operation);
}
dirent* readdir(DIR* directory) {
  return fails("readdir") ? nullptr : next<dirent*(DIR*)>("readdir")(directory);
}

}  // extern "C"

namespace takt {
namespace {

using namespace testing_state;
using std::filesystem::path;
constexpr Split kOne = {1, 1};
constexpr long kMostCalls = 1000;  // of a save; more means that the loop below never ends

// Faults happen inside of it.
class Faults {
 public:
  explicit Faults(const Plan& wanted) {
    num_calls = 0;
    plan = wanted;
  }
  ~Faults() { plan = {}; }
};

path fresh_directory() {
  const path directory = testing::TempDir() + "/takt-io-fault-" + random_suffix();
  std::filesystem::create_directories(directory);
  return directory;
}

// The fault of what the action throws; none where it ends well.
std::optional<Fault> fault_of(const Plan& wanted, const std::function<void()>& action) {
  const Faults faults(wanted);
  try {
    action();
    return std::nullopt;
  } catch (const Error& error) {
    if (wanted.error == EINTR) ADD_FAILURE() << error.what();
    return error.fault();
  }
}

void save(const path& root, std::int64_t step, Communicator& world) {
  RankState state = state_of(kOne, 0, 0);
  fill_with_values(state);
  TrainingCursor cursor;
  cursor.step = step;
  save_checkpoint(root, state.shards, cursor, 2, world);
}

void expect_all_load(const path& root, Communicator& world) {
  for (const path& directory : list_checkpoints(root)) {
    RankState state = state_of(kOne, 0, kPadding);
    load_checkpoint(directory, state.shards, world);
    for (std::size_t i = 0; i < state.shards.size(); ++i)
      EXPECT_EQ(state.buffers[i], expected_buffer(state.shards[i], kPadding)) << directory;
  }
}

// A save for every call of it that fails as planned. Steps 1 and 2 are there; step 2 is saved again in every
// second one. True in `may_fail`: a save may end with kIo.
void save_with_every_fault(Plan wanted, bool may_fail) {
  run_ranks(1, [&](Communicator& world) {
    const path root = fresh_directory();
    for (const std::int64_t step : {1, 2}) save(root, step, world);
    long num_failed = 0;
    for (wanted.at = 0; wanted.at < kMostCalls; ++wanted.at) {
      const std::int64_t step = wanted.at % 2 == 0 ? 2 : 3 + wanted.at;
      const auto fault = fault_of(wanted, [&] { save(root, step, world); });
      if (num_calls <= wanted.at) break;  // the save has fewer calls
      EXPECT_TRUE(!fault || (may_fail && *fault == Fault::kIo))
          << "call " << wanted.at << " of " << wanted.only;
      num_failed += fault ? 1 : 0;
      EXPECT_GE(list_checkpoints(root).size(), 2u) << "call " << wanted.at;
      expect_all_load(root, world);
    }
    EXPECT_LT(wanted.at, kMostCalls);
    EXPECT_GE(wanted.at, 3) << wanted.only;
    EXPECT_EQ(num_failed > 0, may_fail);
  });
}

TEST(IoFaults, AnInterruptedCallOfASaveIsRepeated) {
  save_with_every_fault({.kind = Kind::kError, .error = EINTR, .only = "open"}, false);
  save_with_every_fault({.kind = Kind::kError, .error = EINTR, .only = "write"}, false);
  save_with_every_fault({.kind = Kind::kError, .error = EINTR, .only = "read"}, false);
  save_with_every_fault({.kind = Kind::kError, .error = EINTR, .only = "fsync"}, false);
  save_with_every_fault({.kind = Kind::kError, .error = EINTR, .only = "rename"}, false);
}

// As a timer does to a slow disk: every second call, of whatever kind.
TEST(IoFaults, ASaveUnderAStreamOfSignalsEndsWell) {
  run_ranks(1, [&](Communicator& world) {
    const path root = fresh_directory();
    for (const std::int64_t step : {1, 2, 3, 3})
      EXPECT_FALSE(
          fault_of({.kind = Kind::kError, .error = EINTR, .at = -1}, [&] { save(root, step, world); }));
    expect_all_load(root, world);
  });
}

TEST(IoFaults, ShortWritesAreGoneOnWith) {
  save_with_every_fault({.kind = Kind::kShortWrite}, false);
}

TEST(IoFaults, WritesThatADiskLosesAreFoundByReadingBack) {
  save_with_every_fault({.kind = Kind::kLostWrite}, true);
}

TEST(IoFaults, ADiskThatFailsOrIsFullLeavesNoVisibleHalfCheckpoint) {
  save_with_every_fault({.kind = Kind::kError, .error = EIO}, true);
  save_with_every_fault({.kind = Kind::kError, .error = ENOSPC}, true);
}

TEST(IoFaults, ADirectoryThatCannotBeReadIsAnIoFault) {
  const path root = fresh_directory();
  run_ranks(1, [&](Communicator& world) { save(root, 1, world); });
  for (long at = 0; at < 3; ++at)
    EXPECT_EQ(fault_of({.kind = Kind::kError, .error = EIO, .at = at, .only = "readdir"},
                       [&] { list_checkpoints(root); }),
              Fault::kIo)
        << at;
}

TEST(IoFaults, ADurableFileIsThereWholeOrAsItWas) {
  const path file = fresh_directory() / "file";
  write_file_atomically(file, "old");
  for (const int error : {EIO, ENOSPC, EINTR})
    for (long at = 0; at < 12; ++at) {
      const auto fault = fault_of({.kind = Kind::kError, .error = error, .at = at},
                                  [&] { write_file_atomically(file, "new"); });
      EXPECT_TRUE(!fault || (*fault == Fault::kIo && error != EINTR)) << error << " at " << at;
      const std::string found = read_text_file(file, 100);
      EXPECT_TRUE(found == "new" || (fault && found == "old")) << found;
      write_file_atomically(file, "old");
    }
  EXPECT_EQ(list_directory(file.parent_path()).size(), 1u) << "temporary files are removed";
}

}  // namespace
}  // namespace takt
