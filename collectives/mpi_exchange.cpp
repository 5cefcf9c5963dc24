// Waits by testing, because MPI_Wait on a peer whose host is gone never returns: TCP tries for a quarter of
// an hour, and MPI says nothing then either.
#include "collectives/mpi_exchange.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "core/base/error.h"

namespace takt {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNumSpins = 200;       // tests before the core goes to another rank
constexpr int kTestsPerLook = 1000;  // at the clock

}  // namespace

MpiExchange::MpiExchange(MpiGroups& groups, MPI_Comm comm, std::size_t max_messages)
    : groups_(groups), comm_(comm) {
  requests_.reserve(max_messages);
  peers_.reserve(max_messages);
}

void MpiExchange::send(const void* data, std::size_t num_bytes, int to, int tag) {
  if (num_bytes == 0) return;
  requests_.push_back(MPI_REQUEST_NULL);
  peers_.push_back(to);
  TAKT_MPI(MPI_Isend(data, static_cast<int>(num_bytes), MPI_BYTE, to, tag, comm_, &requests_.back()));
}

void MpiExchange::receive(void* data, std::size_t num_bytes, int from, int tag) {
  if (num_bytes == 0) return;
  requests_.push_back(MPI_REQUEST_NULL);
  peers_.push_back(from);
  TAKT_MPI(MPI_Irecv(data, static_cast<int>(num_bytes), MPI_BYTE, from, tag, comm_, &requests_.back()));
}

void MpiExchange::wait(const Signature& call) {
  const Clock::time_point start = Clock::now();
  for (int num_tests = 1;; ++num_tests) {
    int is_done = 0;
    TAKT_MPI(
        MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &is_done, MPI_STATUSES_IGNORE));
    if (is_done != 0) break;
    if (num_tests > kNumSpins) sched_yield();
    if (num_tests < kTestsPerLook) continue;
    num_tests = kNumSpins;
    const std::chrono::duration<double> waited = Clock::now() - start;
    if (!groups_.late.empty()) fail(Fault::kPeer, groups_.late);
    if (waited.count() > groups_.peer_timeout_s) fail_late(call);
  }
  requests_.clear();
  peers_.clear();
}

// Receives are cancelled, so that MPI does not write into memory that this error's unwinding gives back.
void MpiExchange::fail_late(const Signature& call) {
  std::vector<std::string> late;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    int is_done = 0;
    TAKT_MPI(MPI_Test(&requests_[i], &is_done, MPI_STATUS_IGNORE));
    if (is_done != 0) continue;
    MPI_Cancel(&requests_[i]);
    const int rank = run_rank_of(comm_, peers_[i]);
    std::string name = concat("rank ", rank, " (", groups_.hosts.at(static_cast<std::size_t>(rank)), ")");
    if (std::find(late.begin(), late.end(), name) == late.end()) late.push_back(std::move(name));
  }
  constexpr std::size_t kMostNamed = 8;
  std::string names;
  for (std::size_t i = 0; i < std::min(late.size(), kMostNamed); ++i) names += (i == 0 ? "" : ", ") + late[i];
  if (late.size() > kMostNamed) names += concat(" and ", late.size() - kMostNamed, " more");
  groups_.late = concat("no answer from ", names, " within ", groups_.peer_timeout_s, " s: ", to_string(call),
                        "\n  is the host up, is its network, and does the rank still run?");
  fail(Fault::kPeer, groups_.late);
}

}  // namespace takt
