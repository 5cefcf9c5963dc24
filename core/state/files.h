// Files as a checkpoint needs them: created exclusively, written whole, synced, read back; and text replaced
// atomically.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/owned.h"
#include "core/state/write_all.h"

namespace takt {

void close_descriptor(int descriptor) noexcept;
using FileDescriptor = Owned<int, close_descriptor, -1>;

// XXH3, 128 bits: finds accidents, not attackers.
class ContentHash {
 public:
  ContentHash();
  void update(const void* bytes, std::size_t num_bytes);
  std::string hex() const;  // 32 digits

 private:
  Owned<XXH3_state_t*, XXH3_freeState> state_;
};
std::string content_hash(std::string_view bytes);

struct FileDigest {
  std::uint64_t num_bytes = 0;
  std::string xxh3;  // 32 digits
  bool operator==(const FileDigest&) const = default;
};
// Reads the whole file. Throws kData where there is no such regular file (a link is none), kIo where reading
// fails.
FileDigest digest_file(const std::filesystem::path& path);

// A file that did not exist before. Nothing it holds may be relied on before commit() has returned.
class NewFile {
 public:
  // Throws kIo, also where the name exists.
  explicit NewFile(const std::filesystem::path& path, unsigned mode = 0600);
  void append(const void* bytes, std::size_t num_bytes);
  // Writes what is buffered, syncs, closes, and reads back. Throws kIo where that is not what was written.
  FileDigest commit();

 private:
  void flush();
  void write_through(const char* bytes, std::size_t num_bytes);

  std::filesystem::path path_;
  FileDescriptor descriptor_;
  ContentHash hash_;
  std::uint64_t num_bytes_ = 0;
  std::vector<char> buffer_;
};

// Makes the names in a directory durable.
void sync_directory(const std::filesystem::path& directory);

// Readers see the old text or the new, never a part. Throws kIo.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

// Throws kData where there is no such file or it is longer than `max_bytes`, kIo where reading fails.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

// 16 random hexadecimal digits, for names that must not collide.
std::string random_suffix();

}  // namespace takt
