// mpirun may bind a rank to some processors: then those are the rank's own.
#include "launch/cpu_threads.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

namespace takt {

int cpu_threads(int wanted, int ranks_on_host) {
  if (wanted > 0) return wanted;
  const auto online = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int usable = sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? CPU_COUNT(&allowed) : online;
  return std::max(1, usable < online ? usable : online / std::max(1, ranks_on_host));
}

}  // namespace takt
