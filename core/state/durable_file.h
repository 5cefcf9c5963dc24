// DurableFile: a file that appears under its name whole and on disk, or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "core/state/files.h"

namespace takt {

struct DurableFileOptions {
  unsigned mode = 0666;     // permissions, less the process's umask
  bool make_folder = true;  // the folders on the way; else it is an error if there are none
};

// Written beside its destination under a temporary name, which is removed if commit() is never reached.
// Throws kIo, with the path and the system's words, where the system refuses.
class DurableFile {
 public:
  explicit DurableFile(const std::filesystem::path& path, const DurableFileOptions& options = {});
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, std::size_t num_bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Once, after the last write: synced, read back, and under its own name in place of what was there. Throws
  // kIo where what is read back is not what was written.
  FileDigest commit();

 private:
  void flush();
  void verify(const FileDigest& written) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once committed
  FileDescriptor descriptor_;
  ContentHash hash_;
  std::uint64_t num_bytes_ = 0;
  std::vector<char> buffer_;
};

// Readers see the old text or the new, never a part. Throws kIo.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

}  // namespace takt
