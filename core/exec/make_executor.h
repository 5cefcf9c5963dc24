// make_executor: the executor of a rank, for the device that its plan is made for.
#pragma once

#include <memory>
#include <string>

#include "collectives/communicator.h"
#include "collectives/nccl_settings.h"
#include "collectives/signature.h"
#include "core/exec/executor.h"

namespace takt {

// What a rank takes of its host; which of it counts depends on the device.
struct ExecutorOptions {
  int gpu = 0;  // ordinal among the visible GPUs
  std::string matmul_choices =
      {};  // file of measured matmul algorithms; empty: the library's heuristic decides
  NcclSettings nccl = {};
  bool time_ops = false;     // every node is timed: see ExecutionTimes
  CallLog* calls = nullptr;  // where the watchdog sees the calls between GPUs; null: nobody watches
};

// `plan` is borrowed, and so is `world`, over which the ranks of the mesh meet: every one of them calls it. Throws kConfig
// where the build has no executor for the plan's device or the device is not there, kMemory if the plan does not fit it.
std::unique_ptr<Executor> make_executor(const StepPlan& plan, Communicator& world,
                                        const ExecutorOptions& options = {});

}  // namespace takt
