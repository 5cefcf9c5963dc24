// SignedCommunicator: the calls of a communicator as signatures. Each is signed and numbered, and handed to one function.
#pragma once

#include <utility>

#include "collectives/call_signer.h"

namespace takt {

// Base: Communicator, or an interface that has more than it.
template <class Base>
class SignedCommunicator : public Base {
 public:
  explicit SignedCommunicator(CallSigner signer) : signer_(std::move(signer)) {}

  int rank() const final { return member().rank; }
  int size() const final { return member().num_ranks; }

  void all_reduce(void* buffer, std::size_t num_elements, DType dtype, ReduceOp op,
                  const CallSite& at) final {
    run(signer_.sign_reduction(Operation::kAllReduce, num_elements, dtype, op, at), buffer, buffer, at);
  }
  void all_gather(const void* send, void* receive, std::size_t num_elements, DType dtype,
                  const CallSite& at) final {
    run(signer_.sign(Operation::kAllGather, num_elements, dtype, at), send, receive, at);
  }
  void reduce_scatter(const void* send, void* receive, std::size_t num_elements, DType dtype, ReduceOp op,
                      const CallSite& at) final {
    run(signer_.sign_reduction(Operation::kReduceScatter, num_elements, dtype, op, at), send, receive, at);
  }
  void all_to_all(const void* send, void* receive, std::size_t num_elements, DType dtype,
                  const CallSite& at) final {
    run(signer_.sign(Operation::kAllToAll, num_elements, dtype, at), send, receive, at);
  }
  void broadcast(void* buffer, std::size_t num_elements, DType dtype, int root, const CallSite& at) final {
    run(signer_.sign_broadcast(num_elements, dtype, root, at), buffer, buffer, at);
  }
  void send(const void* buffer, std::size_t num_elements, DType dtype, int to, const CallSite& at) final {
    run(signer_.sign_message(Operation::kSend, num_elements, dtype, to, at), buffer, nullptr, at);
  }
  void receive(void* buffer, std::size_t num_elements, DType dtype, int from, const CallSite& at) final {
    run(signer_.sign_message(Operation::kReceive, num_elements, dtype, from, at), nullptr, buffer, at);
  }
  void barrier(const CallSite& at) final {
    run(signer_.sign(Operation::kBarrier, 0, DType{}, at), nullptr, nullptr, at);
  }

 protected:
  const GroupMember& member() const { return signer_.member(); }
  Signature sign_split(int color) { return signer_.sign_split(color); }

  // Any call but a split. The buffers are one where the call is in place, null where it has none.
  virtual void run(const Signature& call, const void* send, void* receive, const CallSite& at) = 0;

 private:
  CallSigner signer_;
};

}  // namespace takt
