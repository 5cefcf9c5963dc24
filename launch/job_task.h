// From the job file's Job to what core/train takes: the task, and the config of its step.
#pragma once

#include <memory>

#include "core/train/job_task.h"
#include "core/train/step_config.h"
#include "launch/job.h"

namespace takt {

// The keys that the job's model declares. Throws kConfig for an unknown model.
Settings settings_of(const Job& job);

// Checks the job and makes its task, which looks into the files it needs to know its extents. Throws kConfig or kData.
std::unique_ptr<JobTask> make_task(const Job& job);

// `unit` is the task's. On GPUs communication is hidden behind computation. Throws kConfig where the batch is in another unit, or no whole number of samples.
StepConfig step_config(const Job& job, const Unit& unit, DeviceKind device = DeviceKind::kCpu);

}  // namespace takt
