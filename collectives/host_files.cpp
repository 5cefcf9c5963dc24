// A file is a head and snapshots as they lie in memory: all ranks run the same binary. Ages are compared by
// modification times, because the file system has one clock and the hosts have many. Files are opened anew
// for every access: that is when NFS looks whether another host has written.
#include "collectives/host_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "collectives/hang_report.h"

namespace takt {
namespace {

constexpr std::uint64_t kMagic = 0x31676f6464746177;  // "watdog1", read backwards

struct FileHead {
  std::uint64_t magic = kMagic;
  std::uint64_t snapshot_bytes = sizeof(RankSnapshot);
  std::uint64_t num_ranks = 0;
  std::uint64_t has_fired = 0;
  double idle_s = 0;
};

bool write_all(int file, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t written = ::write(file, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    data = data.subspan(static_cast<std::size_t>(written));
  }
  return true;
}

bool read_all(int file, std::span<std::byte> data) {
  while (!data.empty()) {
    const ssize_t num_read = ::read(file, data.data(), data.size());
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read <= 0) return false;
    data = data.subspan(static_cast<std::size_t>(num_read));
  }
  return true;
}

// Whether a signature from a file can be printed.
bool is_printable(const Signature& call) {
  return call.operation <= Operation::kSplit && call.dtype <= static_cast<std::uint8_t>(DType::kI32);
}

bool is_sane(std::span<const RankSnapshot> ranks) {
  return std::all_of(ranks.begin(), ranks.end(), [](const RankSnapshot& rank) {
    return rank.rank >= 0 && rank.state <= RankState::kEnded && is_printable(rank.call) &&
           is_printable(rank.finished);
  });
}

}  // namespace

PathText path_text(std::string_view directory, std::string_view name) {
  PathText path = {};
  if (directory.empty() || directory.size() + name.size() + 2 > path.size()) return path;
  TextBuffer text(std::span<char>(path).first(path.size() - 1));
  text << directory;
  if (!name.empty()) text << '/' << name;
  return path;
}

PathText host_file(const PathText& run_directory, int host) {
  std::array<char, 32> memory = {};
  TextBuffer name(memory);
  name << "watch/host-" << std::int64_t{host};
  return path_text(run_directory.data(), name.view());
}

bool write_whole_file(const PathText& path, std::span<const std::byte> data, bool must_be_new) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | (must_be_new ? O_EXCL : 0);
  const int file = path[0] == '\0' ? -1 : ::open(path.data(), flags, 0600);
  if (file < 0) return false;
  const bool is_written = write_all(file, data);
  return ::close(file) == 0 && is_written;
}

bool write_host_file(const PathText& run_directory, int host, std::span<const RankSnapshot> ranks,
                     double idle_s, bool has_fired) {
  const PathText path = host_file(run_directory, host);
  const int file =
      path[0] == '\0' ? -1 : ::open(path.data(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return false;
  const FileHead head = {.num_ranks = ranks.size(), .has_fired = has_fired ? 1u : 0u, .idle_s = idle_s};
  const bool is_written =
      write_all(file, std::as_bytes(std::span(&head, 1))) && write_all(file, std::as_bytes(ranks));
  return ::close(file) == 0 && is_written;
}

HostNews read_host_file(const PathText& run_directory, int host, std::span<RankSnapshot> ranks) {
  HostNews news;
  const PathText path = host_file(run_directory, host);
  const int file = path[0] == '\0' ? -1 : ::open(path.data(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return news;
  struct stat status = {};
  FileHead head;
  const bool is_ours = ::fstat(file, &status) == 0 &&
                       read_all(file, std::as_writable_bytes(std::span(&head, 1))) && head.magic == kMagic &&
                       head.snapshot_bytes == sizeof(RankSnapshot);
  if (is_ours) {
    news.num_ranks = std::min<std::size_t>(head.num_ranks, ranks.size());
    news.is_known = read_all(file, std::as_writable_bytes(ranks.first(news.num_ranks))) &&
                    is_sane(ranks.first(news.num_ranks));
    news.has_fired = head.has_fired != 0;
    news.idle_s = head.idle_s;
    news.written_s =
        static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
  }
  ::close(file);
  return news;
}

}  // namespace takt
