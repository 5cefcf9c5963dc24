// How a call becomes calls of NCCL. Connections are made in nccl.cpp.
#include "collectives/nccl_communicator.h"

#include "core/base/error.h"

namespace takt {
namespace {

ncclDataType_t to_nccl(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kI32:
      return ncclInt32;
    case DType::kU8:
      return ncclUint8;
  }
  fail(Fault::kBug, "nccl: unknown element type");
}

ncclRedOp_t to_nccl(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMax:
      return ncclMax;
  }
  fail(Fault::kBug, "nccl: unknown reduce op");
}

void* offset(void* data, std::size_t num_bytes) {
  return static_cast<std::byte*>(data) + num_bytes;
}

}  // namespace

// ---- Calls ----

cudaStream_t NcclCommunicator::stream_of(const CallSite& at) const {
  return at.stream == nullptr ? rank_->stream() : static_cast<cudaStream_t>(at.stream);
}

void NcclCommunicator::run(const Signature& call, const void* send, void* receive, const CallSite& at) {
  rank_->log().note_started(call);
  const bool is_message = call.operation == Operation::kSend || call.operation == Operation::kReceive;
  if (rank_->settings().check == NcclSettings::Check::kEachCall)
    is_message ? compare_message(*host_, call) : compare_call(*host_, call);
  else
    digest_.add(call);
  connect();
  rank_->queue({this, call, send, receive, stream_of(at)});
  rank_->log().note_finished();
}

// ---- Launching ----

bool NcclCommunicator::goes_by_domain(const Signature& call) const {
  return call.operation == Operation::kAllReduce && inside_ != nullptr &&
         call.num_elements >= static_cast<std::uint64_t>(inside_->size());
}

int NcclCommunicator::num_phases(const Signature& call) const {
  return goes_by_domain(call) ? 3 : 1;
}

void NcclCommunicator::issue(const NcclCall& call, int phase) {
  if (goes_by_domain(call.signature)) return issue_by_domain(call, phase);
  if (phase > 0) return;
  if (size() == 1) return issue_alone(call);
  const Signature& of = call.signature;
  if (of.num_elements == 0 && of.operation != Operation::kBarrier) return;
  const ncclDataType_t type = to_nccl(of.element_type());
  const ncclComm_t comm = connection_.comm;
  switch (of.operation) {
    case Operation::kAllReduce:
      return TAKT_NCCL(ncclAllReduce(call.send, call.receive, of.num_elements, type, to_nccl(of.reduction()),
                                     comm, call.stream));
    case Operation::kAllGather:
      return TAKT_NCCL(ncclAllGather(call.send, call.receive, of.num_elements, type, comm, call.stream));
    case Operation::kReduceScatter:
      return TAKT_NCCL(ncclReduceScatter(call.send, call.receive, of.num_elements, type,
                                         to_nccl(of.reduction()), comm, call.stream));
    case Operation::kAllToAll:
      return TAKT_NCCL(ncclAlltoAll(call.send, call.receive, of.num_elements, type, comm, call.stream));
    case Operation::kBroadcast:
      return TAKT_NCCL(
          ncclBroadcast(call.send, call.receive, of.num_elements, type, of.peer, comm, call.stream));
    case Operation::kSend:
      return TAKT_NCCL(ncclSend(call.send, of.num_elements, type, of.peer, comm, call.stream));
    case Operation::kReceive:
      return TAKT_NCCL(ncclRecv(call.receive, of.num_elements, type, of.peer, comm, call.stream));
    case Operation::kBarrier:
      return TAKT_NCCL(
          ncclAllReduce(barrier_word_.get(), barrier_word_.get(), 1, ncclInt32, ncclSum, comm, call.stream));
    case Operation::kSplit:
      break;
  }
  fail(Fault::kBug, "nccl: a call that cannot be queued: ", to_string(of));
}

void NcclCommunicator::issue_alone(const NcclCall& call) {
  if (call.send == call.receive || call.signature.num_elements == 0) return;
  TAKT_CUDA(cudaMemcpyAsync(call.receive, call.send, call.signature.num_bytes(), cudaMemcpyDeviceToDevice,
                            call.stream));
}

// Each rank of a domain owns a share, in place. What is left when the elements do not divide is reduced over all ranks.
void NcclCommunicator::issue_by_domain(const NcclCall& call, int phase) {
  const Signature& of = call.signature;
  const auto num_ranks = static_cast<std::size_t>(inside_->size());
  const std::size_t share = of.num_elements / num_ranks;
  const std::size_t left = of.num_elements - share * num_ranks;
  void* const mine =
      offset(call.receive, static_cast<std::size_t>(inside_->rank()) * share * of.element_bytes());
  const ncclDataType_t type = to_nccl(of.element_type());
  const ncclRedOp_t op = to_nccl(of.reduction());
  if (phase == 0) {
    TAKT_NCCL(ncclReduceScatter(call.send, mine, share, type, op, inside_->connection_.comm, call.stream));
    if (left == 0) return;
    void* const rest = offset(call.receive, share * num_ranks * of.element_bytes());
    TAKT_NCCL(ncclAllReduce(rest, rest, left, type, op, connection_.comm, call.stream));
  } else if (phase == 1) {
    TAKT_NCCL(ncclAllReduce(mine, mine, share, type, op, across_->connection_.comm, call.stream));
  } else {
    TAKT_NCCL(ncclAllGather(mine, call.receive, share, type, inside_->connection_.comm, call.stream));
  }
}

}  // namespace takt
