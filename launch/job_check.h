// Checks that need more than one key of the job.
#pragma once

#include "launch/job.h"

namespace takt {

// Throws kConfig if keys contradict each other or a needed one is missing. Opens no file.
void check_job(const Job& job);

}  // namespace takt
