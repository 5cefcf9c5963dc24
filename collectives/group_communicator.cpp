// Logs every call while a backend runs it.
#include "collectives/group_communicator.h"

#include <cstring>

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

void GroupCommunicator::run(const Signature& call, const void* send, void* receive, const CallSite&) {
  run_logged(*member().log, call, [&] {
    if (size() > 1)
      run_in_group(call, send, receive);
    else if (receive != send && call.num_elements > 0)
      std::memcpy(receive, send, call.num_bytes());
  });
}

void GroupCommunicator::run_in_group(const Signature& call, const void* send, void* receive) {
  switch (call.operation) {
    case Operation::kAllReduce:
      return run_all_reduce(receive, call);
    case Operation::kAllGather:
      return run_all_gather(send, receive, call);
    case Operation::kReduceScatter:
      return run_reduce_scatter(send, receive, call);
    case Operation::kAllToAll:
      return run_all_to_all(send, receive, call);
    case Operation::kBroadcast:
      return run_broadcast(receive, call);
    case Operation::kSend:
      return run_send(send, call);
    case Operation::kReceive:
      return run_receive(receive, call);
    case Operation::kBarrier:
      return run_barrier(call);
    case Operation::kSplit:
      break;
  }
  fail(Fault::kBug, "group ", member().group, ": a call that moves no data: ", to_string(call));
}

std::unique_ptr<Communicator> GroupCommunicator::split(int color, std::string_view name) {
  const Signature call = sign_split(color);
  std::unique_ptr<Communicator> group;
  run_logged(*member().log, call, [&] { group = run_split(color, name, call); });
  return group;
}

}  // namespace takt
