// resume: which checkpoint a run starts from, and whether it is the same experiment.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "core/train/trainer.h"
#include "launch/job.h"

namespace takt {

// Says something to the user; rank 0 prints, the others stay silent.
using Notice = std::function<void(std::string_view)>;

// The table of what must be the same for a run of this job, on training data of this hash, to go on from a
// checkpoint. The one place that lists it.
ComparedFacts compared_facts(const Job& job, std::uint64_t data_hash);

// Loads the newest checkpoint under `checkpoints` that is whole; falls back to older ones with a warning. The
// root alone lists the directory, so that ranks with a stale view of a shared file system do not differ.
// False if there is none. Every rank calls it. Throws kData if none is whole, kConfig if it belongs to
// another experiment than `trainer.cursor().compared`.
bool resume_newest(const std::filesystem::path& checkpoints, Trainer& trainer, Communicator& comm,
                   const Notice& notice);

// The same for one checkpoint directory.
void resume_from(const std::filesystem::path& checkpoint, Trainer& trainer, Communicator& comm,
                 const Notice& notice);

// Throws kConfig where a fact of the checkpoint is another one now, or where its table is of a later version.
// A checkpoint without a table is compared by its job, which says nothing about the data.
void require_same_experiment(const TrainingCursor& saved, const ComparedFacts& now);

}  // namespace takt
