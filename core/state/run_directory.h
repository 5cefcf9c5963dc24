// The run directory: everything a run leaves behind, and what is needed to start it again.
#pragma once

#include <ctime>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/state/durable_file.h"

namespace takt {

struct RunDirectory {
  std::filesystem::path path;
  bool is_new = true;  // false: it was there, so a run may be resumed

  std::filesystem::path checkpoints() const { return path / "checkpoint"; }
  std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  std::filesystem::path summary() const { return path / "summary.json"; }
  std::filesystem::path final_model() const { return path / "final"; }
};

// "2026-11-23T12-30-05", UTC.
std::string run_timestamp(std::time_t time);

// A new directory runs_root/<name>.<timestamp>; ".2", ".3", ... is appended where that exists. Root only. Throws kIo.
RunDirectory create_run_directory(const std::filesystem::path& runs_root, const std::string& name,
                                  const std::string& timestamp);
// The directory the user named, made where it is absent and reused where it is there. Root only. Throws kIo.
RunDirectory open_run_directory(const std::filesystem::path& directory);

// Renames a file to the next free name (metrics.jsonl to metrics.2.jsonl), so that a new one does not wipe
// it. Returns that name; empty, where there is no file or it is empty. Root only. Throws kIo.
std::filesystem::path set_aside(const std::filesystem::path& file);

// What was run, by whom and where, for whoever finds the directory later.
struct RunDescription {
  std::string job_file;       // as given
  std::string effective_job;  // with defaults and overrides
  std::string command;        // one line
  std::vector<std::pair<std::string, std::string>>
      environment;  // facts such as {"mpi", "Open MPI 4.1.4"}, in order
};
// Writes job.toml, effective.toml, command.txt and environment.json. Nothing is overwritten: where a file
// with other contents is there, as after a resume with other flags, the next free name is taken (effective.2.toml).
void describe_run(const RunDirectory& run, const RunDescription& description);

}  // namespace takt
