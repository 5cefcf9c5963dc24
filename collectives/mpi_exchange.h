// MpiExchange: messages between ranks that are all under way at once, and a wait for them that has a deadline.
#pragma once

#include <cstddef>
#include <vector>

#include "collectives/mpi_call.h"
#include "collectives/signature.h"

namespace takt {

// Messages of a pair arrive in the order they are posted. Never allocates after its construction.
class MpiExchange {
 public:
  // max_messages: between two calls of wait.
  MpiExchange(MpiGroups& groups, MPI_Comm comm, std::size_t max_messages);

  // Posts a message of up to 2^31 - 1 bytes; one of no bytes is none, on both sides.
  void send(const void* data, std::size_t num_bytes, int to, int tag);
  void receive(void* data, std::size_t num_bytes, int from, int tag);

  // Returns once all that was posted is done. Throws kPeer, naming the hosts of the ranks that did not come,
  // after MpiGroups::peer_timeout_s, and at once if that has happened before: nobody waits twice. What is
  // still under way then may yet be written to: the run must end.
  void wait(const Signature& call);

 private:
  [[noreturn]] void fail_late(const Signature& call);

  MpiGroups& groups_;
  MPI_Comm comm_;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;
};

}  // namespace takt
