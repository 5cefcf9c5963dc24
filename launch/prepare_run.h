// Everything that must hold before step 1: job, data, mesh, compiled step, memory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "collectives/bootstrap.h"
#include "core/state/token_dataset.h"
#include "core/state/tokenizer.h"
#include "launch/compile_step.h"
#include "launch/device_choice.h"
#include "launch/job_file.h"
#include "launch/run_options.h"

namespace takt {

struct PreparedRun {
  LoadedJob loaded;                      // as read, with origins
  Job job;                               // complete
  std::unique_ptr<Tokenizer> tokenizer;  // null if the job names none
  Backend backend = Backend::kCpu;
  Mesh mesh;
  BatchPlan batch;
  StepPlan plan;
  std::uint64_t memory_limit_bytes = 0;  // of a rank
  std::optional<TokenDataset> train;
  std::optional<TokenDataset> valid;
  std::vector<std::string> notices;  // what people must know before step 1
};

// Every rank calls it. Throws kConfig, kData or kMemory; no rank goes on if one fails.
PreparedRun prepare_run(const RunOptions& options, const std::vector<std::string>& environment, World& world);

}  // namespace takt
