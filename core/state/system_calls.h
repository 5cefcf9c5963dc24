// System calls on files: one retry where a signal interrupts them, one error that all of them end in.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string_view>
#include <vector>

#include "core/base/owned.h"

namespace takt {

void close_descriptor(int descriptor) noexcept;
using FileDescriptor = Owned<int, close_descriptor, -1>;

// Throws kIo: "<path>: cannot <what>: <the system's words for error>".
[[noreturn]] void fail_io(const std::filesystem::path& path, std::string_view what, int error);

// Repeats a call that returns -1 with EINTR: a signal came, such as the one that asks for this checkpoint.
template <class Call>
auto retried(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

// Empty, with errno, where the system refuses.
FileDescriptor open_descriptor(const std::filesystem::path& path, int flags, mode_t mode = 0);

// The rest throw kIo naming `path`.
//
// All bytes, however many calls that takes.
void write_all(int descriptor, const std::filesystem::path& path, const void* data, std::size_t num_bytes);
// The number of bytes read: less than asked for only at the end of the file.
std::size_t read_all(int descriptor, const std::filesystem::path& path, void* data, std::size_t num_bytes);
void sync(int descriptor, const std::filesystem::path& path);
// Makes the names in a directory durable.
void sync_directory(const std::filesystem::path& directory);
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);
void make_directories(const std::filesystem::path& directory);

// The entries of a directory, sorted; none where there is no such directory.
std::vector<std::filesystem::path> list_directory(const std::filesystem::path& directory);
// not_found where there is nothing of that name; links are followed.
std::filesystem::file_type type_of(const std::filesystem::path& path);

}  // namespace takt
