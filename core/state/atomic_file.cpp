// Write to a temporary name, fsync, rename: a reader meets the old file or the new one, never a half. The
// folder is synced too, else the new name could be lost in a power failure.
#include "core/state/atomic_file.h"

#include <fcntl.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/state/write_all.h"

namespace takt {

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) fail_io(path, "create its folder", error.value());
  std::string name = path.string() + ".tmp-" + std::to_string(::getpid());
  descriptor_ = Owned<int, ::close, -1>(
      ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!descriptor_) fail_io(path, "create a temporary file beside it", errno);
  temporary_ = std::move(name);
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t num_bytes) {
  write_all(descriptor_.get(), path_, data, num_bytes);
}

void AtomicFile::commit() {
  if (::fsync(descriptor_.get()) != 0) fail_io(path_, "write", errno);
  descriptor_.reset();
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_io(path_, "give it its name", errno);
  temporary_.clear();
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  const Owned<int, ::close, -1> opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened || ::fsync(opened.get()) != 0) fail_io(path_, "sync its folder", errno);
}

}  // namespace takt
