// nccl: ranks are GPUs. Calls are queued on CUDA streams and run by NCCL; a host communicator carries what ranks must know
// of each other before and beside that.
#pragma once

#include <memory>

#include "collectives/device_communicator.h"
#include "collectives/nccl_settings.h"

namespace takt {

struct BackendRanks;

// A communicator over all ranks of `ranks.control`, each with the device that is current in its calling thread. Every rank
// calls it, with the same settings but for `domain`. Destroying it, and what is split from it before, waits for the other
// ranks: like World it lives outside main's try block, and a rank that fails alone calls abandon(). While an exception
// unwinds it abandons by itself. Throws kPeer if NCCL cannot connect within the deadline.
std::unique_ptr<DeviceCommunicator> make_nccl_communicator(const BackendRanks& ranks,
                                                           const NcclSettings& settings = {});

// Registered as "nccl".
std::unique_ptr<Communicator> make_nccl(const BackendRanks& ranks);

}  // namespace takt
