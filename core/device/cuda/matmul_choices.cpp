// Lines are appended whole, under an exclusive lock that the system takes back if the process ends.
#include "core/device/cuda/matmul_choices.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "core/base/error.h"
#include "core/base/owned.h"

namespace takt {
namespace {

void close_file(int descriptor) noexcept {
  ::close(descriptor);
}
using File = Owned<int, close_file, -1>;

[[noreturn]] void fail_io(const std::string& path, const char* what) {
  fail(Fault::kIo, "matmul choices '", path, "': cannot ", what, ": ", std::strerror(errno));
}

File open_locked(const std::string& path) {
  File file(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file) fail_io(path, "open");
  while (::flock(file.get(), LOCK_EX) != 0)
    if (errno != EINTR) fail_io(path, "lock");
  return file;
}

std::optional<MeasuredChoice> find_line(const std::string& path, const std::string& key) {
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string found;
    MeasuredChoice choice;
    if (!(words >> found >> choice.candidate >> choice.time_s) || choice.candidate < 0)
      fail(Fault::kData, "matmul choices '", path, "': a line is '", line,
           "', wanted a key, a number and seconds\n  delete the file; products are then measured again");
    if (found == key) return choice;
  }
  return std::nullopt;
}

}  // namespace

MeasuredChoice find_or_measure(const std::string& path, const std::string& key,
                               const std::function<MeasuredChoice()>& measure) {
  const File file = open_locked(path);
  if (const auto known = find_line(path, key)) return *known;
  const MeasuredChoice choice = measure();
  const std::string line = concat(key, " ", choice.candidate, " ", choice.time_s, "\n");
  if (::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    fail_io(path, "write");
  return choice;
}

}  // namespace takt
