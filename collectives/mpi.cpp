// mpi: how groups of processes are made and split, and messages between two ranks. The collective calls are
// in mpi_shared_memory.cpp and mpi_messages.cpp.
#include "collectives/mpi.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

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
void exchange_signatures(MpiExchange& exchange, const Signature& call) {
  Signature theirs;
  exchange.receive(&theirs, sizeof(theirs), call.peer, kSignatureTag);
  exchange.send(&call, sizeof(call), call.peer, kSignatureTag);
  exchange.wait(call);
  if (same_message(call, theirs)) return;
  // The sender first, or the lower rank: the same text on both sides.
  const bool i_first = call.run_rank < theirs.run_rank;
  fail(Fault::kPeer, i_first ? mismatch_text(call, theirs) : mismatch_text(theirs, call));
}

// The ranks of `comm` that are on this host, in their order.
MpiComm ranks_on_host(MPI_Comm comm, int run_rank, const MpiOptions& options) {
  MPI_Comm on_host = MPI_COMM_NULL;
  if (options.pretended_host != nullptr)
    TAKT_MPI(MPI_Comm_split(comm, options.pretended_host(run_rank), 0, &on_host));
  else
    TAKT_MPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &on_host));
  return MpiComm(on_host);
}

// A host is known by its lowest rank.
HostLayout layout_of(MPI_Comm comm, MPI_Comm on_host, const GroupMember& member) {
  int host = member.rank;
  TAKT_MPI(MPI_Bcast(&host, 1, MPI_INT, 0, on_host));
  std::vector<int> host_of_rank(static_cast<std::size_t>(member.num_ranks));
  TAKT_MPI(MPI_Allgather(&host, 1, MPI_INT, host_of_rank.data(), 1, MPI_INT, comm));
  return HostLayout(host_of_rank);
}

// Of every rank of the run.
std::vector<std::string> host_names() {
  using Name = std::array<char, MPI_MAX_PROCESSOR_NAME>;
  Name mine = {};
  int length = 0, num_ranks = 0;
  TAKT_MPI(MPI_Get_processor_name(mine.data(), &length));
  TAKT_MPI(MPI_Comm_size(MPI_COMM_WORLD, &num_ranks));
  std::vector<Name> all(static_cast<std::size_t>(num_ranks));
  TAKT_MPI(MPI_Allgather(mine.data(), static_cast<int>(mine.size()), MPI_CHAR, all.data(),
                         static_cast<int>(mine.size()), MPI_CHAR, MPI_COMM_WORLD));
  std::vector<std::string> names;
  for (const Name& name : all) names.emplace_back(name.data());
  return names;
}

}  // namespace

MpiCommunicator::MpiCommunicator(MpiGroup& group, const MpiSetting& setting, GroupMember member)
    : GroupCommunicator(std::move(member)),
      group_(group),
      setting_(setting),
      exchange_(*setting.groups, group.comm.get(), 2 * static_cast<std::size_t>(size())) {}

void MpiCommunicator::run_send(const void* buffer, const Signature& call) {
  exchange_signatures(exchange_, call);
  const auto* data = static_cast<const std::byte*>(buffer);
  for (std::size_t begin = 0; begin < call.num_bytes(); begin += kMessageBytes) {
    exchange_.send(data + begin, std::min(kMessageBytes, call.num_bytes() - begin), call.peer, kDataTag);
    exchange_.wait(call);
  }
}

void MpiCommunicator::run_receive(void* buffer, const Signature& call) {
  exchange_signatures(exchange_, call);
  auto* data = static_cast<std::byte*>(buffer);
  for (std::size_t begin = 0; begin < call.num_bytes(); begin += kMessageBytes) {
    exchange_.receive(data + begin, std::min(kMessageBytes, call.num_bytes() - begin), call.peer, kDataTag);
    exchange_.wait(call);
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
  MpiComm on_host = ranks_on_host(group.comm.get(), run_rank, setting.options);
  HostLayout layout = layout_of(group.comm.get(), on_host.get(), member);
  if (layout.num_hosts() == 1) return make_mpi_shared_memory(group, setting, std::move(member));
  MpiGroup& same_host = setting.groups->add(std::move(on_host));
  return make_mpi_messages(group, same_host, std::move(layout), setting, std::move(member));
}

std::unique_ptr<Communicator> make_mpi_communicator(MpiGroups& groups, CallLog& log,
                                                    const MpiOptions& options) {
  TAKT_ASSERT(is_mpi_running(), "make_mpi_communicator: MPI is not running");
  if (groups.hosts.empty()) groups.hosts = host_names();
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
