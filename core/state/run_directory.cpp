// Run directories. mkdir decides who owns a name, not a check before it: two jobs may start in the same second.
#include "core/state/run_directory.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace takt {
namespace {

using std::filesystem::path;
constexpr std::uint64_t kMaxTextBytes = std::uint64_t{16} << 20;

// Name them job.toml, job.2.toml, job.3.toml, ...
path numbered(const path& directory, const path& name, int number) {
  if (number == 1) return directory / name;
  return directory / fmt::format("{}.{}{}", name.stem().string(), number, name.extension().string());
}

void write_once(const path& directory, const path& name, const std::string& text) {
  for (int number = 1;; ++number) {
    const path file = numbered(directory, name, number);
    if (type_of(file) == std::filesystem::file_type::not_found) return write_file_atomically(file, text);
    if (read_text_file(file, kMaxTextBytes) == text) return;
  }
}

}  // namespace

std::string run_timestamp(std::time_t time) {
  return fmt::format("{:%Y-%m-%dT%H-%M-%S}", fmt::gmtime(time));
}

RunDirectory create_run_directory(const path& runs_root, const std::string& name,
                                  const std::string& timestamp) {
  make_directories(runs_root);
  for (int number = 1;; ++number) {
    const std::string suffix = number == 1 ? "" : fmt::format(".{}", number);
    const path directory = runs_root / fmt::format("{}.{}{}", name, timestamp, suffix);
    if (retried([&] { return ::mkdir(directory.c_str(), 0777); }) == 0) return {directory, true};
    if (errno != EEXIST) fail_io(directory, "create", errno);
  }
}

RunDirectory open_run_directory(const path& directory) {
  const bool is_new = type_of(directory) == std::filesystem::file_type::not_found;
  make_directories(directory);
  return {directory, is_new};
}

path set_aside(const path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error) || std::filesystem::file_size(file, error) == 0) return {};
  int number = 2;
  while (std::filesystem::exists(numbered(file.parent_path(), file.filename(), number), error)) ++number;
  const path kept = numbered(file.parent_path(), file.filename(), number);
  std::filesystem::rename(file, kept, error);
  if (error) fail_io(file, "rename", error.value());
  sync_directory(file.parent_path());
  return kept;
}

void describe_run(const RunDirectory& run, const RunDescription& description) {
  nlohmann::ordered_json environment = nlohmann::ordered_json::object();
  for (const auto& [fact, value] : description.environment) environment[fact] = value;
  write_once(run.path, "job.toml", description.job_file);
  write_once(run.path, "effective.toml", description.effective_job);
  write_once(run.path, "command.txt", description.command + "\n");
  // The system's words may be any bytes.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  write_once(run.path, "environment.json", environment.dump(2, ' ', false, kReplace) + "\n");
}

}  // namespace takt
