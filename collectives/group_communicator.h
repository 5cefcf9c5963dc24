// GroupCommunicator: what the CPU backends share. It signs, numbers and logs every call, checks the caller's
// arguments and does the calls of one-rank groups; a backend moves the data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
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

class GroupCommunicator : public Communicator {
 public:
  explicit GroupCommunicator(GroupMember member);

  int rank() const final { return member_.rank; }
  int size() const final { return member_.num_ranks; }

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
  void note_progress(const Progress& progress) final { member_.log->note_progress(progress); }

 protected:
  const GroupMember& member() const { return member_; }

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
  Signature sign(Operation operation, std::size_t num_elements, DType dtype, const CallSite& at);
  Signature sign_message(Operation operation, std::size_t num_elements, DType dtype, int peer,
                         const CallSite& at);
  void copy_alone(const void* send, void* receive, const Signature& call) const;

  GroupMember member_;
  std::uint64_t num_calls_ = 0;
  std::vector<std::uint64_t> num_sent_;      // to each rank of the group
  std::vector<std::uint64_t> num_received_;  // from each rank of the group
};

}  // namespace takt
