// The two communicators of the mpi backend and what they share: messages between two ranks, and splitting.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "collectives/group_communicator.h"
#include "collectives/host_layout.h"
#include "collectives/mpi.h"
#include "collectives/mpi_call.h"
#include "collectives/mpi_exchange.h"

namespace takt {

// What a communicator and all that is split from it have in common.
struct MpiSetting {
  MpiGroups* groups = nullptr;
  MpiOptions options;
};

class MpiCommunicator : public GroupCommunicator {
 public:
  MpiCommunicator(MpiGroup& group, const MpiSetting& setting, GroupMember member);

  std::string_view backend() const final { return "mpi"; }

 protected:
  MPI_Comm comm() const { return group_.comm.get(); }
  MpiExchange& exchange() { return exchange_; }

  void run_send(const void* buffer, const Signature& call) final;
  void run_receive(void* buffer, const Signature& call) final;
  std::unique_ptr<Communicator> run_split(int color, std::string_view name, const Signature& call) final;

 private:
  MpiGroup& group_;
  MpiSetting setting_;
  MpiExchange exchange_;
};

// Which of the two fits the group: shared memory if all its ranks are on one host. Every rank of the group calls it.
std::unique_ptr<Communicator> make_mpi_group(const MpiSetting& setting, MpiComm comm, std::string_view name,
                                             int run_rank, CallLog& log);

// Every rank of the group calls these.
std::unique_ptr<Communicator> make_mpi_shared_memory(MpiGroup& group, const MpiSetting& setting,
                                                     GroupMember member);
// on_host: of the ranks of `group` on this host, in their order.
std::unique_ptr<Communicator> make_mpi_messages(MpiGroup& group, MpiGroup& on_host, HostLayout layout,
                                                const MpiSetting& setting, GroupMember member);

}  // namespace takt
