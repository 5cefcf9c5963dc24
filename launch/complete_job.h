// From the job file's Job to one with nothing left open.
#pragma once

#include <memory>

#include "core/state/tokenizer.h"
#include "launch/job.h"

namespace takt {

// Loads the tokenizer if the job names one, takes the vocabulary from it, and lets the model fill in its
// extents. Returns the tokenizer, or null. Throws kConfig, or kData for the tokenizer.
std::unique_ptr<Tokenizer> complete_job(Job& job);

}  // namespace takt
