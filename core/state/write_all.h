// write_all: the one loop around the system's write, and the error that every file operation ends in.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace takt {

// Throws kIo: "<path>: cannot <what>: <the system's words for error>".
[[noreturn]] void fail_io(const std::filesystem::path& path, std::string_view what, int error);

// Writes all bytes, however many calls that takes. Throws kIo naming `path`.
void write_all(int descriptor, const std::filesystem::path& path, const void* data, std::size_t num_bytes);

}  // namespace takt
