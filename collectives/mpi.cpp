// mpi: how groups of processes are made and split, and messages between two ranks. The collective calls are
// in mpi_shared_memory.cpp and mpi_messages.cpp.
#include "collectives/mpi.h"

#include <algorithm>
#include <string>
#include <utility>

#include "collectives/mpi_backend.h"
#include "collectives/registry.h"
#include "core/base/error.h"

namespace takt {
namespace {

constexpr int kSignatureTag = 1;
constexpr int kDataTag = 2;
constexpr std::size_t kMessageBytes = std::size_t{1} << 30;  // MPI counts are int

// Both sides tell each other what they are about to do, so that both throw if it does not fit, and so that
// two ranks that send to each other at once learn it instead of waiting forever.
void exchange_signatures(MPI_Comm comm, const Signature& call) {
  Signature theirs;
  TAKT_MPI(MPI_Sendrecv(&call, sizeof(call), MPI_BYTE, call.peer, kSignatureTag, &theirs, sizeof(theirs),
                        MPI_BYTE, call.peer, kSignatureTag, comm, MPI_STATUS_IGNORE));
  if (same_message(call, theirs)) return;
  // The sender first, or the lower rank: the same text on both sides.
  const bool i_first = call.run_rank < theirs.run_rank;
  fail(Fault::kPeer, i_first ? mismatch_text(call, theirs) : mismatch_text(theirs, call));
}

bool is_on_one_host(MPI_Comm comm, int num_ranks) {
  MPI_Comm on_host = MPI_COMM_NULL;
  TAKT_MPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &on_host));
  const MpiComm owned(on_host);
  int num_on_host = 0;
  TAKT_MPI(MPI_Comm_size(on_host, &num_on_host));
  return num_on_host == num_ranks;
}

}  // namespace

MpiCommunicator::MpiCommunicator(MpiGroup& group, const MpiSetting& setting, GroupMember member)
    : GroupCommunicator(std::move(member)), group_(group), setting_(setting) {}

void MpiCommunicator::run_send(const void* buffer, const Signature& call) {
  exchange_signatures(comm(), call);
  const auto* data = static_cast<const std::byte*>(buffer);
  for (std::size_t begin = 0; begin < call.num_bytes(); begin += kMessageBytes) {
    const auto num_bytes = static_cast<int>(std::min(kMessageBytes, call.num_bytes() - begin));
    TAKT_MPI(MPI_Send(data + begin, num_bytes, MPI_BYTE, call.peer, kDataTag, comm()));
  }
}

void MpiCommunicator::run_receive(void* buffer, const Signature& call) {
  exchange_signatures(comm(), call);
  auto* data = static_cast<std::byte*>(buffer);
  for (std::size_t begin = 0; begin < call.num_bytes(); begin += kMessageBytes) {
    const auto num_bytes = static_cast<int>(std::min(kMessageBytes, call.num_bytes() - begin));
    TAKT_MPI(MPI_Recv(data + begin, num_bytes, MPI_BYTE, call.peer, kDataTag, comm(), MPI_STATUS_IGNORE));
  }
}

std::unique_ptr<Communicator> MpiCommunicator::run_split(int color, std::string_view name,
                                                         const Signature& call) {
  if (size() > 1) run_barrier(call);  // compares the signatures
  MPI_Comm group = MPI_COMM_NULL;
  TAKT_MPI(MPI_Comm_split(comm(), color, rank(), &group));
  return make_mpi_group(setting_, MpiComm(group), name, member().run_rank, *member().log);
}

std::unique_ptr<Communicator> make_mpi_group(const MpiSetting& setting, MpiComm comm, std::string_view name,
                                             int run_rank, CallLog& log) {
  GroupMember member{.group = std::string(name), .run_rank = run_rank, .log = &log};
  MpiGroup& group = setting.groups->add(std::move(comm));
  TAKT_MPI(MPI_Comm_rank(group.comm.get(), &member.rank));
  TAKT_MPI(MPI_Comm_size(group.comm.get(), &member.num_ranks));
  const bool shares_memory = setting.options.use_shared_memory && member.num_ranks > 1 &&
                             is_on_one_host(group.comm.get(), member.num_ranks);
  return shares_memory ? make_mpi_shared_memory(group, setting, std::move(member))
                       : make_mpi_messages(group, setting, std::move(member));
}

std::unique_ptr<Communicator> make_mpi_communicator(MpiGroups& groups, CallLog& log,
                                                    const MpiOptions& options) {
  TAKT_ASSERT(is_mpi_running(), "make_mpi_communicator: MPI is not running");
  MPI_Comm world = MPI_COMM_NULL;
  TAKT_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &world));
  MpiComm comm(world);
  int rank = 0;
  TAKT_MPI(MPI_Comm_rank(world, &rank));
  return make_mpi_group({.groups = &groups, .options = options}, std::move(comm), "world", rank, log);
}

std::unique_ptr<Communicator> make_mpi(const BackendRanks& ranks) {
  TAKT_REQUIRE(ranks.control.backend() == "mpi",
               "collectives: backend 'mpi' is for processes started by an MPI ",
               "launcher, these ranks meet through ", ranks.control.backend());
  return ranks.control.split(0, "mpi");
}

}  // namespace takt
