// What `takt train` leaves in a run directory's final/: the model, ready to be applied.
#pragma once

#include <filesystem>
#include <memory>

#include "core/train/job_task.h"
#include "launch/job.h"

namespace takt {

struct ExportedModel {
  std::filesystem::path folder;  // with model.safetensors
  Job job;                       // it was trained with
  std::unique_ptr<JobTask> task;
};

// Throws kData if there is no finished run in the directory, or what lies there is not of one model.
ExportedModel open_exported(const std::filesystem::path& run_directory);

}  // namespace takt
