// What one rank alone may decide: ranks of a run may see a shared file system at different times.
#pragma once

#include <functional>
#include <string>

#include "collectives/communicator.h"

namespace takt {

// The root's answer, on every rank; the others are not asked. Every rank of `comm` calls it. A root that
// throws makes every rank throw.
std::string ask_root(Communicator& comm, const std::function<std::string()>& question);
bool ask_root_whether(Communicator& comm, const std::function<bool()>& question);

}  // namespace takt
