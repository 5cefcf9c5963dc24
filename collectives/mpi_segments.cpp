// The window of shared memory behind the segments, and the waiting.
#include "collectives/mpi_segments.h"

#include <sched.h>

#include <new>

namespace takt {
namespace {

constexpr int kNumSpins = 2000;  // about ten microseconds; then the core goes to another rank

static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "counters are shared between processes");

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

HostSegments::HostSegments(MpiGroup& group, std::size_t half_bytes)
    : half_bytes_(round_up(half_bytes, kLineBytes)) {
  int rank = 0, num_ranks = 0;
  TAKT_MPI(MPI_Comm_rank(group.comm.get(), &rank));
  TAKT_MPI(MPI_Comm_size(group.comm.get(), &num_ranks));
  my_rank_ = static_cast<std::size_t>(rank);
  group.window = MpiSharedWindow(group.comm.get(), sizeof(Head) + 2 * half_bytes_ + kLineBytes);
  for (int r = 0; r < num_ranks; ++r) {
    // Processes map the window at different pages, but at the same offset in a page.
    const auto address = reinterpret_cast<std::uintptr_t>(group.window.part(r));
    heads_.push_back(reinterpret_cast<Head*>(round_up(address, kLineBytes)));
  }
  new (heads_[my_rank_]) Head;
  TAKT_MPI(MPI_Barrier(group.comm.get()));  // nobody counts before all counters are zero
}

void HostSegments::arrive_and_wait() {
  heads_[my_rank_]->num_arrivals.store(++num_arrivals_, std::memory_order_release);
  for (const Head* head : heads_) {
    int num_spins = 0;
    while (head->num_arrivals.load(std::memory_order_acquire) < num_arrivals_)
      if (++num_spins > kNumSpins) sched_yield();
  }
}

}  // namespace takt
