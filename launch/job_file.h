// Reading a job: defaults < file < TAKT_* environment < --set K=V < named flag.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "launch/job.h"

namespace takt {

// A flag that stands for one key: `--steps 100` is {"--steps", "train.steps", "100"}.
struct NamedFlag {
  std::string flag;
  std::string key;
  std::string value;
};

// What changes a job beside its file. Values are TOML; text may stand without quotes.
struct JobOverrides {
  std::vector<std::string> environment = {};  // "NAME=value"; names without TAKT_ are ignored
  std::vector<std::string> sets = {};         // "optimizer.lr=1e-3"
  std::vector<NamedFlag> flags = {};
};

struct LoadedJob {
  Job job;
  std::map<std::string, std::string>
      origins;                            // of each key that is not its default: "job.toml:12", "--set", ...
  std::map<std::string, int> precedence;  // of where it comes from: file 0, environment 1, --set 2, flag 3
  std::string text;                       // the job file as it was read
};

// Throws kConfig for a file that is missing, unreadable or over 1 MiB, and for every key or value that is
// wrong, and for a key of another kind (optimizer.betas with sgd) unless the kind comes from a later source:
// then the key was meant for the kind before it, and is dropped.
LoadedJob load_job(const std::filesystem::path& path, const JobOverrides& overrides);
// The same for a text; `name` is what errors and origins call it.
LoadedJob parse_job(std::string_view text, std::string_view name, const JobOverrides& overrides);

// The effective file of an earlier run: also one of an earlier version, which had keys of every kind in it.
LoadedJob load_saved_job(const std::filesystem::path& path);
LoadedJob parse_saved_job(std::string_view text, std::string_view name);

// All keys that the job reads, with their values and, as comments, where each came from. Loads again to the same job.
std::string effective_file(const LoadedJob& loaded);

}  // namespace takt
