// A write may be interrupted or cut short; a disk that takes no more bytes says so by taking none.
#include "core/state/write_all.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/base/error.h"

namespace takt {

void fail_io(const std::filesystem::path& path, std::string_view what, int error) {
  fail(Fault::kIo, path.string(), ": cannot ", what, ": ", std::generic_category().message(error));
}

void write_all(int descriptor, const std::filesystem::path& path, const void* data, std::size_t num_bytes) {
  constexpr std::size_t kMaxBytesACall = std::size_t{1} << 30;  // Linux takes no more than 2 GiB a call
  const char* next = static_cast<const char*>(data);
  while (num_bytes > 0) {
    const ssize_t written = ::write(descriptor, next, std::min(num_bytes, kMaxBytesACall));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_io(path, "write", written < 0 ? errno : ENOSPC);
    next += written;
    num_bytes -= static_cast<std::size_t>(written);
  }
}

}  // namespace takt
