// Write to a temporary name, fsync, rename: a reader meets the old file or the new one, never a half. The
// folder is synced too, else the new name could be lost in a power failure.
#include "core/state/atomic_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

[[noreturn]] void fail_io(std::string_view what, const std::filesystem::path& path, int error) {
  fail(Fault::kIo, path.string(), ": cannot ", what, ": ", std::generic_category().message(error));
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) fail_io("create its folder", path, error.value());
  std::string name = path.string() + ".tmp-" + std::to_string(::getpid());
  descriptor_ = Owned<int, ::close, -1>(
      ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!descriptor_) fail_io("create a temporary file beside it", path, errno);
  temporary_ = std::move(name);
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t num_bytes) {
  constexpr std::size_t kMaxBytesACall = std::size_t{1} << 30;  // Linux takes no more than 2 GiB a call
  const char* next = static_cast<const char*>(data);
  while (num_bytes > 0) {
    const ssize_t written = ::write(descriptor_.get(), next, std::min(num_bytes, kMaxBytesACall));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_io("write", path_, written < 0 ? errno : ENOSPC);
    next += written;
    num_bytes -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_.get()) != 0) fail_io("write", path_, errno);
  descriptor_.reset();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io("give it its name", path_, errno);
  temporary_.clear();
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  const Owned<int, ::close, -1> opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened || ::fsync(opened.get()) != 0) fail_io("sync its folder", path_, errno);
}

}  // namespace takt
