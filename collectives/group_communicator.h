// GroupCommunicator: what the CPU backends share. It signs, numbers and logs every call, checks the caller's
// arguments and does the calls of one-rank groups; a backend moves the data.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "collectives/call_signer.h"
#include "collectives/communicator.h"
#include "collectives/signature.h"

namespace takt {

class GroupCommunicator : public Communicator {
 public:
  explicit GroupCommunicator(GroupMember member) : signer_(std::move(member)) {}

  int rank() const final { return member().rank; }
  int size() const final { return member().num_ranks; }

  void all_reduce(void* buffer, std::size_t num_elements, DType dtype, ReduceOp op, const CallSite& at) final;
  void all_gather(const void* send, void* receive, std::size_t num_elements, DType dtype,
                  const CallSite& at) final;
  void reduce_scatter(const void* send, void* receive, std::size_t num_elements, DType dtype, ReduceOp op,
                      const CallSite& at) final;
  void all_to_all(const void* send, void* receive, std::size_t num_elements, DType dtype,
                  const CallSite& at) final;
  void broadcast(void* buffer, std::size_t num_elements, DType dtype, int root, const CallSite& at) final;
  void send(const void* buffer, std::size_t num_elements, DType dtype, int to, const CallSite& at) final;
  void receive(void* buffer, std::size_t num_elements, DType dtype, int from, const CallSite& at) final;
  void barrier(const CallSite& at) final;
  std::unique_ptr<Communicator> split(int color, std::string_view name) final;
  void note_progress(const Progress& progress) final { member().log->note_progress(progress); }

 protected:
  const GroupMember& member() const { return signer_.member(); }

  // Called for groups of two and more ranks, split for all. Each compares the group's signatures before any
  // buffer of the caller is written, and is done on return. Parameters of the call are read from its signature.
  virtual void run_all_reduce(void* buffer, const Signature& call) = 0;
  virtual void run_all_gather(const void* send, void* receive, const Signature& call) = 0;
  virtual void run_reduce_scatter(const void* send, void* receive, const Signature& call) = 0;
  virtual void run_all_to_all(const void* send, void* receive, const Signature& call) = 0;
  virtual void run_broadcast(void* buffer, const Signature& call) = 0;
  virtual void run_send(const void* buffer, const Signature& call) = 0;
  virtual void run_receive(void* buffer, const Signature& call) = 0;
  virtual void run_barrier(const Signature& call) = 0;
  virtual std::unique_ptr<Communicator> run_split(int color, std::string_view name,
                                                  const Signature& call) = 0;

 private:
  void copy_alone(const void* send, void* receive, const Signature& call) const;

  CallSigner signer_;
};

}  // namespace takt
