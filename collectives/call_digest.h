// CallDigest: compares what ranks called on a group whose calls are only queued, after they were queued.
//
// A backend that runs calls at once compares their signatures at each call. Calls on a GPU's stream are issued far ahead
// of their execution, so that a message between hosts at each would cost what the queue hides. Instead each rank hashes
// the signatures as it makes the calls, and the ranks compare one hash at the end of a step, while the GPU works. Only if
// they differ are the signatures themselves sent, to name the first two that do not fit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/signature.h"

namespace takt {

class CallDigest {
 public:
  explicit CallDigest(int num_ranks) : pairs_(static_cast<std::size_t>(num_ranks)) {}

  void add(const Signature& call);

  // Every rank of the group calls it, with a host communicator over the same ranks, and starts anew. Throws kPeer, with
  // the same text on every rank, unless all made the same calls and every message was sent and received alike.
  void compare(Communicator& host);

 private:
  // What was sent to a rank and received from it.
  struct Pair {
    std::uint64_t sent = 0, received = 0;
  };

  void compare_messages(Communicator& host);
  void clear();

  std::uint64_t hash_ = 0;  // of all calls but messages
  std::vector<Signature> calls_, messages_;
  std::vector<Pair> pairs_;  // by rank of the group
};

// The same at once, for one call that was not made yet. Every rank of the group calls it. Throws kPeer.
void compare_call(Communicator& host, const Signature& call);
// Both ranks of the message call it. Throws kPeer on both.
void compare_message(Communicator& host, const Signature& message);

}  // namespace takt
