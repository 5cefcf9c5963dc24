// The weights a run starts from: its own newest checkpoint, another checkpoint, another model, or random ones.
#pragma once

#include <filesystem>
#include <string>

#include "core/state/run_directory.h"
#include "launch/prepare_run.h"
#include "launch/resume.h"
#include "launch/trainer.h"

namespace takt {

// Refuses, as kUsage with the way out, a --resume that the run directory contradicts: `never` where there are
// checkpoints, or a PATH where they are of a run that did not start from it. Root only.
void require_resumable(const RunDirectory& directory, const std::string& resume);

// Loads or makes the weights; --resume PATH is remembered in the run directory, so that the same command,
// requeued, goes on with the run it began. Returns the run's own checkpoint that was loaded; empty: none.
// Every rank calls it.
std::filesystem::path start_weights(const RunDirectory& directory, const std::string& resume,
                                    const PreparedRun& prepared, Trainer& trainer, Communicator& comm,
                                    const Notice& notice);

}  // namespace takt
