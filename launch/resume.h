// resume: which checkpoint a run starts from, and whether it is the same experiment.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "launch/trainer.h"

namespace takt {

// Says something to the user; rank 0 prints, the others stay silent.
using Notice = std::function<void(std::string_view)>;

// Loads the newest checkpoint under `checkpoints` that is whole; falls back to older ones with a warning. The
// root alone lists the directory, so that ranks with a stale view of a shared file system do not differ.
// False if there is none. Every rank calls it. Throws kData if none is whole, kConfig if it belongs to
// another experiment.
bool resume_newest(const std::filesystem::path& checkpoints, Trainer& trainer, const Job& job,
                   Communicator& comm, const Notice& notice);

// The same for one checkpoint directory.
void resume_from(const std::filesystem::path& checkpoint, Trainer& trainer, const Job& job,
                 Communicator& comm, const Notice& notice);

// Throws kConfig where the saved job and this one differ in a key that decides what the weights or the data
// cursor mean.
void require_same_experiment(const std::string& saved_job, const Job& job);

}  // namespace takt
