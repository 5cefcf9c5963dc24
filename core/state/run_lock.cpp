// flock on DIR/lock. The file stays behind; only the lock on it says that a run goes on. What stands in it is
// for the message that the second run gets.
#include "core/state/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr const char* kLockName = "lock";

std::string this_process() {
  std::array<char, 256> host = {};
  if (::gethostname(host.data(), host.size() - 1) != 0) host = {};
  return concat("process ", ::getpid(), " on ", host.data());
}

std::string holder_of(int descriptor) {
  std::array<char, 512> text = {};
  const ssize_t got = ::pread(descriptor, text.data(), text.size() - 1, 0);
  return got > 0 ? std::string(text.data(), static_cast<std::size_t>(got)) : "another process";
}

bool has_no_locks(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / kLockName;
  descriptor_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!descriptor_) fail_io(path, "open", errno);
  int result = 0;
  do result = ::flock(descriptor_.get(), LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  const int error = result == 0 ? 0 : errno;
  if (error == EWOULDBLOCK)
    fail(Fault::kUsage, directory.string(), ": another run is going on here (", holder_of(descriptor_.get()),
         ")\n  wait for its end, stop it with SIGUSR1, or choose another --out");
  if (error != 0 && !has_no_locks(error)) fail_io(path, "lock", error);
  is_held_ = error == 0;
  const std::string text = this_process();
  if (::ftruncate(descriptor_.get(), 0) != 0 ||
      ::pwrite(descriptor_.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    fail_io(path, "write", errno);
}

}  // namespace takt
