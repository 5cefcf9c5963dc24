// Files as they are read and compared: content hashes, whole texts, names that do not collide.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/owned.h"
#include "core/state/system_calls.h"

namespace takt {

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
// Reads the whole file. Throws kData where there is no such regular file (a link is none), kIo where reading fails.
FileDigest digest_file(const std::filesystem::path& path);

// Throws kData where there is no such file or it is longer than `max_bytes`, kIo where reading fails.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes);

// 16 random hexadecimal digits, for names that must not collide.
std::string random_suffix();

}  // namespace takt
