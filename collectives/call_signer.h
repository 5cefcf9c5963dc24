// CallSigner: one rank's place in a group, and the signatures of the calls that it makes there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "collectives/signature.h"

namespace takt {

// One rank's place in a group.
struct GroupMember {
  std::string group;       // "data[5]"
  int rank = 0;            // in the group
  int num_ranks = 1;       // of the group
  int run_rank = 0;        // over the whole run, as errors name it
  CallLog* log = nullptr;  // the rank's; outlives the communicator
};

// Numbers calls in the order in which they are signed. Messages are numbered by pair, because the other ranks of the
// group do not take part in them.
class CallSigner {
 public:
  explicit CallSigner(GroupMember member);

  const GroupMember& member() const { return member_; }

  Signature sign(Operation operation, std::size_t num_elements, DType dtype, const CallSite& at);
  Signature sign_reduction(Operation operation, std::size_t num_elements, DType dtype, ReduceOp op,
                           const CallSite& at);
  Signature sign_broadcast(std::size_t num_elements, DType dtype, int root, const CallSite& at);
  // operation: send or receive.
  Signature sign_message(Operation operation, std::size_t num_elements, DType dtype, int peer,
                         const CallSite& at);
  Signature sign_split(int color);

 private:
  GroupMember member_;
  std::uint64_t num_calls_ = 0;
  std::vector<std::uint64_t> num_sent_;      // to each rank of the group
  std::vector<std::uint64_t> num_received_;  // from each rank of the group
};

}  // namespace takt
