// How many CPU threads a rank gets.
#pragma once

namespace takt {

// `wanted` if it is positive; otherwise the processors this process may use over the ranks of the host, at least one.
int cpu_threads(int wanted, int ranks_on_host);

}  // namespace takt
