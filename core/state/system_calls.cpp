// A write may be interrupted or cut short; a disk that takes no more bytes says so by taking none. A failed
// fsync is final: the kernel has by then marked the lost pages clean (Rebello et al., "Can applications
// recover from fsync failures?", ATC 2020). An interrupted one is not a failed one.
#include "core/state/system_calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "core/base/error.h"

namespace takt {
namespace {

void close_directory(DIR* directory) noexcept {
  ::closedir(directory);
}

}  // namespace

void close_descriptor(int descriptor) noexcept {
  ::close(descriptor);  // on Linux it is closed even where a signal interrupts the call
}

void fail_io(const std::filesystem::path& path, std::string_view what, int error) {
  fail(Fault::kIo, path.string(), ": cannot ", what, ": ", std::generic_category().message(error));
}

FileDescriptor open_descriptor(const std::filesystem::path& path, int flags, mode_t mode) {
  return FileDescriptor(retried([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); }));
}

void write_all(int descriptor, const std::filesystem::path& path, const void* data, std::size_t num_bytes) {
  constexpr std::size_t kMaxBytesACall = std::size_t{1} << 30;  // Linux takes no more than 2 GiB a call
  const char* next = static_cast<const char*>(data);
  while (num_bytes > 0) {
    const ssize_t written =
        retried([&] { return ::write(descriptor, next, std::min(num_bytes, kMaxBytesACall)); });
    if (written <= 0) fail_io(path, "write", written < 0 ? errno : ENOSPC);
    next += written;
    num_bytes -= static_cast<std::size_t>(written);
  }
}

std::size_t read_all(int descriptor, const std::filesystem::path& path, void* data, std::size_t num_bytes) {
  char* const bytes = static_cast<char*>(data);
  std::size_t done = 0;
  while (done < num_bytes) {
    const ssize_t got = retried([&] { return ::read(descriptor, bytes + done, num_bytes - done); });
    if (got < 0) fail_io(path, "read", errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void sync(int descriptor, const std::filesystem::path& path) {
  if (retried([&] { return ::fsync(descriptor); }) != 0) fail_io(path, "sync", errno);
}

void sync_directory(const std::filesystem::path& directory) {
  const FileDescriptor descriptor = open_descriptor(directory, O_RDONLY | O_DIRECTORY);
  if (!descriptor) fail_io(directory, "open", errno);
  sync(descriptor.get(), directory);
}

void rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (retried([&] { return ::rename(from.c_str(), to.c_str()); }) != 0)
    fail_io(from, "rename to " + to.string(), errno);
}

void make_directories(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) fail_io(directory, "create", error.value());
}

std::vector<std::filesystem::path> list_directory(const std::filesystem::path& directory) {
  DIR* opened = nullptr;
  do opened = ::opendir(directory.c_str());
  while (opened == nullptr && errno == EINTR);
  if (opened == nullptr && (errno == ENOENT || errno == ENOTDIR)) return {};
  if (opened == nullptr) fail_io(directory, "list", errno);
  const Owned<DIR*, close_directory> owned(opened);
  std::vector<std::filesystem::path> entries;
  for (;;) {
    errno = 0;  // the only way to tell an error from the end
    const dirent* entry = ::readdir(opened);
    if (entry == nullptr && errno == EINTR) continue;
    if (entry == nullptr && errno != 0) fail_io(directory, "list", errno);
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") entries.push_back(directory / name);
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::filesystem::file_type type_of(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_type type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::none) fail_io(path, "examine", error.value());
  return type;
}

}  // namespace takt
