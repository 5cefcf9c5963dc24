// Durable files. A write counts only once it was synced and read back: disks and network file systems
// acknowledge what they lose, and a failed fsync must not be repeated on the same descriptor, since the
// kernel has by then marked the lost pages clean (Rebello et al., "Can applications recover from fsync
// failures?", ATC 2020).
#include "core/state/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <system_error>
#include <utility>

#include "core/base/error.h"
#include "core/state/atomic_file.h"
#include "core/state/mapped_file.h"

namespace takt {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

void sync_descriptor(int descriptor, const std::filesystem::path& path) {
  if (::fsync(descriptor) != 0) fail_io(path, "sync", errno);
}

// The number of bytes read: less than asked for only at the end of the file.
std::size_t read_fully(int descriptor, char* buffer, std::size_t num_bytes,
                       const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < num_bytes) {
    const ssize_t got = ::read(descriptor, buffer + done, num_bytes - done);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io(path, "read", errno);
    done += static_cast<std::size_t>(got);
  }
  return done;
}

FileDescriptor open_regular(const std::filesystem::path& path) {
  FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
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

FileDescriptor create_exclusively(const std::filesystem::path& path, unsigned mode) {
  FileDescriptor descriptor(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, static_cast<mode_t>(mode)));
  if (!descriptor) fail_io(path, "create", errno);
  return descriptor;
}

// Asks the kernel to forget its copy, so that reading back reaches the device where the file system allows
// it.
void drop_cached_pages(const std::filesystem::path& path) {
  const FileDescriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (descriptor) ::posix_fadvise(descriptor.get(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace

void close_descriptor(int descriptor) noexcept {
  ::close(descriptor);
}

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
    const std::size_t got = read_fully(descriptor.get(), buffer.data(), buffer.size(), path);
    hash.update(buffer.data(), got);
    digest.num_bytes += got;
    if (got < buffer.size()) break;
  }
  digest.xxh3 = hash.hex();
  return digest;
}

NewFile::NewFile(const std::filesystem::path& path, unsigned mode)
    : path_(path), descriptor_(create_exclusively(path, mode)) {
  buffer_.reserve(kBufferBytes);
}

void NewFile::append(const void* bytes, std::size_t num_bytes) {
  hash_.update(bytes, num_bytes);
  num_bytes_ += num_bytes;
  const char* begin = static_cast<const char*>(bytes);
  if (buffer_.size() + num_bytes > kBufferBytes) flush();
  if (num_bytes > kBufferBytes)
    write_through(begin, num_bytes);
  else
    buffer_.insert(buffer_.end(), begin, begin + num_bytes);
}

void NewFile::flush() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void NewFile::write_through(const char* bytes, std::size_t num_bytes) {
  write_all(descriptor_.get(), path_, bytes, num_bytes);
}

FileDigest NewFile::commit() {
  flush();
  sync_descriptor(descriptor_.get(), path_);
  descriptor_.reset();
  drop_cached_pages(path_);
  const FileDigest written{num_bytes_, hash_.hex()};
  const FileDigest found = digest_file(path_);
  if (found != written)
    fail(Fault::kIo, path_.string(), ": reads back as ", found.num_bytes, " bytes with hash ", found.xxh3,
         ", but ", written.num_bytes, " bytes with hash ", written.xxh3,
         " were written\n  the disk or file system loses data; save elsewhere");
  return written;
}

void sync_directory(const std::filesystem::path& directory) {
  const FileDescriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor) fail_io(directory, "open", errno);
  sync_descriptor(descriptor.get(), directory);
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
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
