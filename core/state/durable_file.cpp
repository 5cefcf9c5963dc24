// Write to a temporary name, fsync, read back, rename, fsync the folder: a reader meets the old file or the
// new one, never a half, and a write counts only once it was read back, since disks and network file systems
// acknowledge what they lose. Without the folder's fsync the new name could be lost in a power failure.
#include "core/state/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

// Asks the kernel to forget its copy, so that reading back reaches the device where the file system allows it.
void drop_cached_pages(const std::filesystem::path& path) {
  const FileDescriptor descriptor = open_descriptor(path, O_RDONLY | O_NOFOLLOW);
  if (descriptor) ::posix_fadvise(descriptor.get(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace

DurableFile::DurableFile(const std::filesystem::path& path, const DurableFileOptions& options) : path_(path) {
  if (options.make_folder) make_directories(folder_of(path));
  std::filesystem::path name = path.string() + ".tmp-" + random_suffix();
  descriptor_ =
      open_descriptor(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, static_cast<mode_t>(options.mode));
  if (!descriptor_) fail_io(path, "create a temporary file beside it", errno);
  temporary_ = std::move(name);
  buffer_.reserve(kBufferBytes);
}

DurableFile::~DurableFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void DurableFile::write(const void* data, std::size_t num_bytes) {
  hash_.update(data, num_bytes);
  num_bytes_ += num_bytes;
  const char* begin = static_cast<const char*>(data);
  if (buffer_.size() + num_bytes > kBufferBytes) flush();
  if (num_bytes > kBufferBytes)
    write_all(descriptor_.get(), path_, begin, num_bytes);
  else
    buffer_.insert(buffer_.end(), begin, begin + num_bytes);
}

void DurableFile::flush() {
  write_all(descriptor_.get(), path_, buffer_.data(), buffer_.size());
  buffer_.clear();
}

void DurableFile::verify(const FileDigest& written) const {
  drop_cached_pages(temporary_);
  const FileDigest found = digest_file(temporary_);
  if (found != written)
    fail(Fault::kIo, path_.string(), ": reads back as ", found.num_bytes, " bytes with hash ", found.xxh3,
         ", but ", written.num_bytes, " bytes with hash ", written.xxh3,
         " were written\n  the disk or file system loses data; save elsewhere");
}

FileDigest DurableFile::commit() {
  flush();
  sync(descriptor_.get(), path_);
  descriptor_.reset();
  FileDigest written{num_bytes_, hash_.hex()};
  verify(written);
  rename_file(temporary_, path_);
  temporary_.clear();
  sync_directory(folder_of(path_));
  return written;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  DurableFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace takt
