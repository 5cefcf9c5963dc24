// Checks what a caller can get wrong by itself; what two ranks can get wrong together is found by comparing signatures.
#include "collectives/call_signer.h"

#include <utility>

#include "core/base/error.h"

namespace takt {

CallSigner::CallSigner(GroupMember member)
    : member_(std::move(member)),
      num_sent_(static_cast<std::size_t>(member_.num_ranks)),
      num_received_(static_cast<std::size_t>(member_.num_ranks)) {
  TAKT_ASSERT(member_.log != nullptr, "group ", member_.group, ": no call log");
  TAKT_ASSERT(member_.rank >= 0 && member_.rank < member_.num_ranks, "group ", member_.group, ": rank ",
              member_.rank, " of ", member_.num_ranks);
}

Signature CallSigner::sign(Operation operation, std::size_t num_elements, DType dtype, const CallSite& at) {
  Signature call;
  call.sequence = num_calls_++;
  call.num_elements = num_elements;
  call.operation = operation;
  call.dtype = static_cast<std::uint8_t>(dtype);
  call.run_rank = member_.run_rank;
  set_group(call, member_.group);
  set_value(call, at.value);
  return call;
}

Signature CallSigner::sign_reduction(Operation operation, std::size_t num_elements, DType dtype, ReduceOp op,
                                     const CallSite& at) {
  Signature call = sign(operation, num_elements, dtype, at);
  call.reduce_op = static_cast<std::uint8_t>(op);
  return call;
}

Signature CallSigner::sign_broadcast(std::size_t num_elements, DType dtype, int root, const CallSite& at) {
  TAKT_ASSERT(root >= 0 && root < member_.num_ranks, "broadcast '", at.value, "' in group ", member_.group,
              ": root is rank ", root, ", wanted a rank below ", member_.num_ranks);
  Signature call = sign(Operation::kBroadcast, num_elements, dtype, at);
  call.peer = root;
  return call;
}

Signature CallSigner::sign_message(Operation operation, std::size_t num_elements, DType dtype, int peer,
                                   const CallSite& at) {
  TAKT_ASSERT(peer >= 0 && peer < member_.num_ranks && peer != member_.rank, name_of(operation), " '",
              at.value, "' in group ", member_.group, ": peer is rank ", peer, ", wanted another rank below ",
              member_.num_ranks);
  Signature call = sign(operation, num_elements, dtype, at);
  --num_calls_;
  auto& num_messages = operation == Operation::kSend ? num_sent_ : num_received_;
  call.sequence = num_messages[static_cast<std::size_t>(peer)]++;
  call.peer = peer;
  return call;
}

// The new groups' names may differ by color, so they are no part of the signature.
Signature CallSigner::sign_split(int color) {
  TAKT_ASSERT(color >= 0, "split of group ", member_.group, ": color is ", color, ", wanted 0 or more");
  return sign(Operation::kSplit, 0, DType{}, CallSite{});
}

}  // namespace takt
