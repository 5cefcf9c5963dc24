// One run directory, one run: a lock that the kernel releases when its holder dies, however it dies.
#pragma once

#include <filesystem>

#include "core/state/files.h"

namespace takt {

class RunLock {
 public:
  // Takes the lock of the run directory, which must exist. Root only. Throws kUsage, naming the holder, where
  // another process has it; kIo.
  explicit RunLock(const std::filesystem::path& directory);
  // False where the file system knows no locks: then nothing keeps a second run out.
  bool is_held() const { return is_held_; }

 private:
  FileDescriptor descriptor_;
  bool is_held_ = false;
};

}  // namespace takt
