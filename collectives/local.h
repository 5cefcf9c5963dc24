// local: ranks are threads of one process. The oracle of the other backends, and how tests run hundreds of ranks.
#pragma once

#include <functional>
#include <memory>

#include "collectives/communicator.h"

namespace takt {

class HostBoard;

// Runs `body` once a rank, each on its own thread, and returns when all are done. The communicator and what
// is split from it are valid inside `body` only. Send returns when the receiver has the data. If a body
// throws, ranks blocked in a call are woken with Error(kPeer) naming that rank, and the first rank's
// exception is rethrown here. A rank that returns while others wait for it in a call is an Error(kPeer) on those.
// board: of that many ranks, where a watchdog is to see them; null: nobody watches.
void run_ranks(int num_ranks, const std::function<void(Communicator&)>& body, HostBoard* board = nullptr);

struct BackendRanks;
// Registered as "local". Throws kConfig unless the ranks are threads of run_ranks.
std::unique_ptr<Communicator> make_local(const BackendRanks& ranks);

}  // namespace takt
