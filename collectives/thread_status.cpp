// Linux: /proc/PID/task/TID/io and stat.
#include "collectives/thread_status.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "collectives/hang_report.h"

namespace takt {
namespace {

// The beginning of a small file under /proc; allocates nothing.
std::string_view read_proc(std::int32_t pid, std::int32_t thread, std::string_view name,
                           std::span<char> memory) {
  std::array<char, 96> path = {};
  TextBuffer(std::span(path).first(path.size() - 1))
      << "/proc/" << std::int64_t{pid} << "/task/" << std::int64_t{thread} << '/' << name;
  const int file = ::open(path.data(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const ssize_t num_bytes = ::read(file, memory.data(), memory.size());
  ::close(file);
  return {memory.data(), static_cast<std::size_t>(std::max<ssize_t>(num_bytes, 0))};
}

}  // namespace

std::uint64_t io_bytes_of(std::int32_t pid, std::int32_t thread) {
  std::array<char, 256> memory;
  const std::string_view text = read_proc(pid, thread, "io", memory);
  std::uint64_t sum = 0;
  for (const std::string_view key : {"rchar: ", "wchar: ", "read_bytes: "}) {
    std::uint64_t number = 0;
    const std::size_t at = text.find(key);
    if (at == text.npos) return 0;
    for (std::size_t i = at + key.size(); i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i)
      number = number * 10 + static_cast<std::uint64_t>(text[i] - '0');
    sum += number;
  }
  return sum;
}

// The file is "pid (name) S ...", where the name may hold anything.
char state_of(std::int32_t pid, std::int32_t thread) {
  std::array<char, 256> memory;
  const std::string_view text = read_proc(pid, thread, "stat", memory);
  const std::size_t at = text.rfind(") ");
  return at == text.npos || at + 2 >= text.size() ? '\0' : text[at + 2];
}

}  // namespace takt
