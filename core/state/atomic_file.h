// AtomicFile: a file that appears under its name whole, or not at all.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/owned.h"

namespace takt {

// Written beside its destination under a temporary name, which is removed if commit() is never reached.
// Folders on the way are created. Throws kIo, with the path and the system's words, where the system refuses.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t num_bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Once, after the last write: on disk under its own name, in place of what was there.
  void commit();

 private:
  std::filesystem::path path_;
  std::string temporary_;  // empty once committed
  Owned<int, ::close, -1> descriptor_;
};

}  // namespace takt
