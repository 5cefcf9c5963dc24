// Stopping on purpose: SIGTERM, SIGINT or SIGUSR1 asks for a checkpoint and an end.
#pragma once

namespace takt {

// From now on these signals no longer end the process but are remembered. Open MPI's mpirun forwards SIGUSR1
// to all ranks; on SIGTERM it kills them after a second, so send SIGUSR1 to mpirun, or SIGTERM to a rank.
void catch_stop_signals();
bool stop_requested();

// In set-up phases, under agree(): throws kStopped if a stop was asked for, and so ends all ranks.
// Nothing was trained yet.
void stop_if_requested();

}  // namespace takt
