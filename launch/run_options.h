// The flags that train and plan share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/job_file.h"

namespace CLI {
class App;
}

namespace takt {

struct RunOptions {
  std::string job_file;
  std::vector<std::string> sets;      // "optimizer.lr=1e-3"
  std::optional<std::int64_t> steps;  // instead of train.steps
  std::optional<int> ranks_per_host;  // that share a host's memory and cores
  std::optional<std::string> out;     // the run directory
  std::string resume = "auto";        // auto | never | a checkpoint or run directory
  bool dry_run = false;               // print the effective file and stop
};

void add_run_options(CLI::App& app, RunOptions& options);
// Only JOB, --set, --steps and --ranks-per-host.
void add_job_options(CLI::App& app, RunOptions& options);

// `environment`: "NAME=value", see CommandContext.
JobOverrides overrides_of(const RunOptions& options, const std::vector<std::string>& environment);

}  // namespace takt
