// Everything that must hold before step 1: job, data, mesh, compiled step, memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "collectives/bootstrap.h"
#include "core/exec/make_executor.h"
#include "core/train/compile_step.h"
#include "core/train/job_task.h"
#include "launch/device_choice.h"
#include "launch/job_file.h"
#include "launch/run_options.h"

namespace takt {

struct PreparedRun {
  LoadedJob loaded;  // as read, with origins
  Job job;
  std::unique_ptr<JobTask> task;
  StepConfig config;
  DeviceKind device = DeviceKind::kCpu;
  GpuInfo gpu = {};  // this rank's, where GPUs compute
  ExecutorOptions executor = {};
  Mesh mesh;
  BatchPlan batch;
  StepPlan plan;
  std::uint64_t memory_limit_bytes = 0;  // of a rank
  Datasets data;
  std::vector<std::string> notices;  // what people must know before step 1
};

// Every rank calls it. Throws kConfig, kData or kMemory; no rank goes on if one fails.
PreparedRun prepare_run(const RunOptions& options, const std::vector<std::string>& environment, World& world);

}  // namespace takt
