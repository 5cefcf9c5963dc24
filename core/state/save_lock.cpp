// flock: a shared lock a save, which the system gives back when the process ends. Going from shared to
// exclusive may lose the shared one on the way; by then this save needs it no more.
#include "core/state/save_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

namespace takt {

SaveLock::SaveLock(const std::filesystem::path& root)
    : descriptor_(open_descriptor(root / ".lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600)) {
  if (!descriptor_) fail_io(root / ".lock", "open", errno);
  if (retried([&] { return ::flock(descriptor_.get(), LOCK_SH); }) != 0) descriptor_.reset();
}

bool SaveLock::become_exclusive() {
  return descriptor_ && retried([&] { return ::flock(descriptor_.get(), LOCK_EX | LOCK_NB); }) == 0;
}

}  // namespace takt
