// Files are hashed as they are read, in pieces, so that a large one needs no memory.
#include "core/state/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <random>
#include <vector>

#include "core/base/error.h"
#include "core/state/mapped_file.h"

namespace takt {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

FileDescriptor open_regular(const std::filesystem::path& path) {
  FileDescriptor descriptor = open_descriptor(path, O_RDONLY | O_NOFOLLOW);
  if (!descriptor) {
    const int error = errno;
    if (error != ENOENT && error != ENOTDIR && error != ELOOP) fail_io(path, "open", error);
    fail(Fault::kData, path.string(),
         error == ELOOP ? ": is a symbolic link, wanted a file" : ": no such file");
  }
  struct stat status = {};
  if (::fstat(descriptor.get(), &status) != 0) fail_io(path, "examine", errno);
  if (!S_ISREG(status.st_mode)) fail(Fault::kData, path.string(), ": is not a regular file");
  return descriptor;
}

}  // namespace

ContentHash::ContentHash() : state_(XXH3_createState()) {
  TAKT_ASSERT(state_, "no memory for a hash state");
  XXH3_128bits_reset(state_.get());
}

void ContentHash::update(const void* bytes, std::size_t num_bytes) {
  if (num_bytes > 0) XXH3_128bits_update(state_.get(), bytes, num_bytes);
}

std::string ContentHash::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string content_hash(std::string_view bytes) {
  ContentHash hash;
  hash.update(bytes.data(), bytes.size());
  return hash.hex();
}

FileDigest digest_file(const std::filesystem::path& path) {
  const FileDescriptor descriptor = open_regular(path);
  std::vector<char> buffer(kBufferBytes);
  ContentHash hash;
  FileDigest digest;
  for (;;) {
    const std::size_t got = read_all(descriptor.get(), path, buffer.data(), buffer.size());
    hash.update(buffer.data(), got);
    digest.num_bytes += got;
    if (got < buffer.size()) break;
  }
  digest.xxh3 = hash.hex();
  return digest;
}

std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const MappedFile file(path);
  if (file.text().size() > max_bytes)
    fail(Fault::kData, path.string(), ": has ", file.text().size(), " bytes, at most ", max_bytes,
         " are allowed");
  return std::string(file.text());
}

std::string random_suffix() {
  std::random_device device;
  const std::uint64_t high = device();
  return fmt::format("{:016x}", (high << 32) | device());
}

}  // namespace takt
