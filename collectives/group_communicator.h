// GroupCommunicator: what the CPU backends share. It logs every call and does those of one-rank groups; a backend
// moves the data.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "collectives/signed_communicator.h"

namespace takt {

class GroupCommunicator : public SignedCommunicator<Communicator> {
 public:
  explicit GroupCommunicator(GroupMember member) : SignedCommunicator(CallSigner(std::move(member))) {}

  std::unique_ptr<Communicator> split(int color, std::string_view name) final;
  void note_progress(const Progress& progress) final { member().log->note_progress(progress); }

 protected:
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
  void run(const Signature& call, const void* send, void* receive, const CallSite& at) final;
  void run_in_group(const Signature& call, const void* send, void* receive);
};

}  // namespace takt
