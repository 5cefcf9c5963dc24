// Signs, numbers and logs every call before a backend runs it. Send and receive are numbered by pair, because
// the other ranks of the group do not take part in them.
#include "collectives/group_communicator.h"

#include <cstring>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

// Notes a call in the rank's log for as long as it runs. A call that throws stays pending, so that reports show it.
template <class Call>
void run_logged(CallLog& log, const Signature& signature, const Call& call) {
  log.note_started(signature);
  call();
  log.note_finished();
}

}  // namespace

GroupCommunicator::GroupCommunicator(GroupMember member)
    : member_(std::move(member)),
      num_sent_(static_cast<std::size_t>(member_.num_ranks)),
      num_received_(static_cast<std::size_t>(member_.num_ranks)) {
  TAKT_ASSERT(member_.log != nullptr, "group ", member_.group, ": no call log");
  TAKT_ASSERT(member_.rank >= 0 && member_.rank < member_.num_ranks, "group ", member_.group, ": rank ",
              member_.rank, " of ", member_.num_ranks);
}

Signature GroupCommunicator::sign(Operation operation, std::size_t num_elements, DType dtype,
                                  const CallSite& at) {
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

Signature GroupCommunicator::sign_message(Operation operation, std::size_t num_elements, DType dtype,
                                          int peer, const CallSite& at) {
  TAKT_ASSERT(peer >= 0 && peer < size() && peer != rank(), name_of(operation), " '", at.value, "' in group ",
              member_.group, ": peer is rank ", peer, ", wanted another rank below ", size());
  Signature call = sign(operation, num_elements, dtype, at);
  --num_calls_;
  auto& num_messages = operation == Operation::kSend ? num_sent_ : num_received_;
  call.sequence = num_messages[static_cast<std::size_t>(peer)]++;
  call.peer = peer;
  return call;
}

void GroupCommunicator::copy_alone(const void* send, void* receive, const Signature& call) const {
  if (call.num_elements > 0) std::memcpy(receive, send, call.num_bytes());
}

void GroupCommunicator::all_reduce(void* buffer, std::size_t num_elements, DType dtype, ReduceOp op,
                                   const CallSite& at) {
  Signature call = sign(Operation::kAllReduce, num_elements, dtype, at);
  call.reduce_op = static_cast<std::uint8_t>(op);
  run_logged(*member_.log, call, [&] {
    if (size() > 1) run_all_reduce(buffer, call);
  });
}

void GroupCommunicator::all_gather(const void* send, void* receive, std::size_t num_elements, DType dtype,
                                   const CallSite& at) {
  const Signature call = sign(Operation::kAllGather, num_elements, dtype, at);
  run_logged(*member_.log, call,
             [&] { size() > 1 ? run_all_gather(send, receive, call) : copy_alone(send, receive, call); });
}

void GroupCommunicator::reduce_scatter(const void* send, void* receive, std::size_t num_elements, DType dtype,
                                       ReduceOp op, const CallSite& at) {
  Signature call = sign(Operation::kReduceScatter, num_elements, dtype, at);
  call.reduce_op = static_cast<std::uint8_t>(op);
  run_logged(*member_.log, call,
             [&] { size() > 1 ? run_reduce_scatter(send, receive, call) : copy_alone(send, receive, call); });
}

void GroupCommunicator::all_to_all(const void* send, void* receive, std::size_t num_elements, DType dtype,
                                   const CallSite& at) {
  const Signature call = sign(Operation::kAllToAll, num_elements, dtype, at);
  run_logged(*member_.log, call,
             [&] { size() > 1 ? run_all_to_all(send, receive, call) : copy_alone(send, receive, call); });
}

void GroupCommunicator::broadcast(void* buffer, std::size_t num_elements, DType dtype, int root,
                                  const CallSite& at) {
  TAKT_ASSERT(root >= 0 && root < size(), "broadcast '", at.value, "' in group ", member_.group,
              ": root is rank ", root, ", wanted a rank below ", size());
  Signature call = sign(Operation::kBroadcast, num_elements, dtype, at);
  call.peer = root;
  run_logged(*member_.log, call, [&] {
    if (size() > 1) run_broadcast(buffer, call);
  });
}

void GroupCommunicator::send(const void* buffer, std::size_t num_elements, DType dtype, int to,
                             const CallSite& at) {
  const Signature call = sign_message(Operation::kSend, num_elements, dtype, to, at);
  run_logged(*member_.log, call, [&] { run_send(buffer, call); });
}

void GroupCommunicator::receive(void* buffer, std::size_t num_elements, DType dtype, int from,
                                const CallSite& at) {
  const Signature call = sign_message(Operation::kReceive, num_elements, dtype, from, at);
  run_logged(*member_.log, call, [&] { run_receive(buffer, call); });
}

void GroupCommunicator::barrier(const CallSite& at) {
  const Signature call = sign(Operation::kBarrier, 0, DType{}, at);
  run_logged(*member_.log, call, [&] {
    if (size() > 1) run_barrier(call);
  });
}

// The new groups' names may differ by color, so they are no part of the signature.
std::unique_ptr<Communicator> GroupCommunicator::split(int color, std::string_view name) {
  TAKT_ASSERT(color >= 0, "split of group ", member_.group, ": color is ", color, ", wanted 0 or more");
  const Signature call = sign(Operation::kSplit, 0, DType{}, CallSite{});
  std::unique_ptr<Communicator> group;
  run_logged(*member_.log, call, [&] { group = run_split(color, name, call); });
  return group;
}

}  // namespace takt
