// SaveLock: who is saving below a directory of checkpoints at this moment.
#pragma once

#include <filesystem>

#include "core/state/system_calls.h"

namespace takt {

// Held by the root of every save from before its staging directory exists until its end, however that comes.
// What lies under a staging name while nobody else holds the lock was left behind by a crash.
class SaveLock {
 public:
  // Waits while another save is deleting what crashes left. Throws kIo where the lock file cannot be made.
  explicit SaveLock(const std::filesystem::path& root);

  // True if no other save is under way, and until this lock ends none begins. False too where the file system
  // knows no locks: then nothing is known of others.
  bool become_exclusive();

 private:
  FileDescriptor descriptor_;
};

}  // namespace takt
