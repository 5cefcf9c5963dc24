// The one table of the job file: parsing, --set, TAKT_* variables, help, did-you-mean, the effective file and
// docs/job.md all read it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/job_key.h"

namespace takt {

// Every key, in the order people read them: the top level first, then one section after another.
const std::vector<JobKey>& job_keys();

// The key of that name, or null.
const JobKey* find_job_key(std::string_view name);
// Whether `name` is a table of keys: "optimizer", "optimizer.schedule".
bool is_job_table(std::string_view name);

// A key of earlier versions that had one choice. It is still read, so that older job files and checkpoints
// are; any other value is refused.
struct RetiredKey {
  std::string name;
  std::string value;
};
const std::vector<RetiredKey>& retired_job_keys();

// The key or table that the writer of an unknown one probably meant, as it would be written in the same
// place: 'lr' for "optimizer.learning_rate", 'optimizer.lr' for "train.lr".
std::optional<std::string> suggest_job_key(std::string_view name);

// The environment variable of a key: "optimizer.lr" -> "TAKT_OPTIMIZER_LR".
std::string environment_name(std::string_view key);

std::string job_keys_text();      // for terminals
std::string job_keys_markdown();  // docs/job.md

}  // namespace takt
