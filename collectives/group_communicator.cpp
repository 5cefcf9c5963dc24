// Signs and logs every call before a backend runs it.
#include "collectives/group_communicator.h"

#include <cstring>

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

void GroupCommunicator::copy_alone(const void* send, void* receive, const Signature& call) const {
  if (call.num_elements > 0) std::memcpy(receive, send, call.num_bytes());
}

void GroupCommunicator::all_reduce(void* buffer, std::size_t num_elements, DType dtype, ReduceOp op,
                                   const CallSite& at) {
  const Signature call = signer_.sign_reduction(Operation::kAllReduce, num_elements, dtype, op, at);
  run_logged(*member().log, call, [&] {
    if (size() > 1) run_all_reduce(buffer, call);
  });
}

void GroupCommunicator::all_gather(const void* send, void* receive, std::size_t num_elements, DType dtype,
                                   const CallSite& at) {
  const Signature call = signer_.sign(Operation::kAllGather, num_elements, dtype, at);
  run_logged(*member().log, call,
             [&] { size() > 1 ? run_all_gather(send, receive, call) : copy_alone(send, receive, call); });
}

void GroupCommunicator::reduce_scatter(const void* send, void* receive, std::size_t num_elements, DType dtype,
                                       ReduceOp op, const CallSite& at) {
  const Signature call = signer_.sign_reduction(Operation::kReduceScatter, num_elements, dtype, op, at);
  run_logged(*member().log, call,
             [&] { size() > 1 ? run_reduce_scatter(send, receive, call) : copy_alone(send, receive, call); });
}

void GroupCommunicator::all_to_all(const void* send, void* receive, std::size_t num_elements, DType dtype,
                                   const CallSite& at) {
  const Signature call = signer_.sign(Operation::kAllToAll, num_elements, dtype, at);
  run_logged(*member().log, call,
             [&] { size() > 1 ? run_all_to_all(send, receive, call) : copy_alone(send, receive, call); });
}

void GroupCommunicator::broadcast(void* buffer, std::size_t num_elements, DType dtype, int root,
                                  const CallSite& at) {
  const Signature call = signer_.sign_broadcast(num_elements, dtype, root, at);
  run_logged(*member().log, call, [&] {
    if (size() > 1) run_broadcast(buffer, call);
  });
}

void GroupCommunicator::send(const void* buffer, std::size_t num_elements, DType dtype, int to,
                             const CallSite& at) {
  const Signature call = signer_.sign_message(Operation::kSend, num_elements, dtype, to, at);
  run_logged(*member().log, call, [&] { run_send(buffer, call); });
}

void GroupCommunicator::receive(void* buffer, std::size_t num_elements, DType dtype, int from,
                                const CallSite& at) {
  const Signature call = signer_.sign_message(Operation::kReceive, num_elements, dtype, from, at);
  run_logged(*member().log, call, [&] { run_receive(buffer, call); });
}

void GroupCommunicator::barrier(const CallSite& at) {
  const Signature call = signer_.sign(Operation::kBarrier, 0, DType{}, at);
  run_logged(*member().log, call, [&] {
    if (size() > 1) run_barrier(call);
  });
}

std::unique_ptr<Communicator> GroupCommunicator::split(int color, std::string_view name) {
  const Signature call = signer_.sign_split(color);
  std::unique_ptr<Communicator> group;
  run_logged(*member().log, call, [&] { group = run_split(color, name, call); });
  return group;
}

}  // namespace takt
