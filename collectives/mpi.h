// mpi: ranks are processes on CPUs. Groups on one host move data through shared memory; groups that span
// hosts do so inside each host, and exchange messages between hosts.
#pragma once

#include <cstddef>
#include <memory>

#include "collectives/communicator.h"
#include "collectives/signature.h"

namespace takt {

class MpiGroups;

struct MpiOptions {
  // Shared memory of each rank in each group. Data passes through it in halves, which should stay in the
  // second-level cache: 256 KiB was the fastest of 256 KiB to 4 MiB for an all-reduce of 16 MB on 2 ranks.
  std::size_t slot_bytes = std::size_t{256} << 10;
  // The same in groups that span hosts, twice, and as much private memory. Larger pieces are fewer messages.
  std::size_t scratch_bytes = std::size_t{4} << 20;
  // Not null: which ranks of the run are taken to be on one host, so that one host can test what several do.
  int (*pretended_host)(int run_rank) = nullptr;
};

// The communicator over all ranks of MPI_COMM_WORLD. Every rank calls it, after MPI_Init and with the same
// options. It and all that is split from it borrow `groups` and `log`. Send returns when the receiver takes
// the data. No call allocates, except split. Throws kPeer if MPI refuses, or if a message of another rank
// does not come within groups.peer_timeout_s.
std::unique_ptr<Communicator> make_mpi_communicator(MpiGroups& groups, CallLog& log,
                                                    const MpiOptions& options = {});

struct BackendRanks;
// Registered as "mpi". Throws kConfig unless the ranks are processes that meet through MPI.
std::unique_ptr<Communicator> make_mpi(const BackendRanks& ranks);

}  // namespace takt
