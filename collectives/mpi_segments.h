// HostSegments: memory that the ranks of a group on one host share, and how they take turns in it.
//
// Every rank owns a segment: a counter, and two halves that each hold a signature and a piece of data. A turn
// is: write into the half of this turn, count up, wait until all have counted up, read the others' halves.
// The next turn uses the other half, so one wait a turn is enough: whoever writes a half again has seen
// everybody count up for the turn between, and so finish reading it. More waits a turn do no harm. Ranks spin
// for a moment and then give up the core, for there may be more ranks than cores.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "collectives/mpi_call.h"
#include "collectives/signature.h"

namespace takt {

// What one half holds beside its data.
struct SegmentNotes {
  Signature call;                // of the owner
  std::array<Signature, 2> two;  // room for a verdict over the calls of many ranks
};

class HostSegments {
 public:
  // Every rank of `group`, all on one host, calls it. half_bytes: of data.
  HostSegments(MpiGroup& group, std::size_t half_bytes);

  std::size_t num_ranks() const { return heads_.size(); }
  std::size_t half_bytes() const { return half_bytes_; }

  void next_turn() { ++num_turns_; }
  void arrive_and_wait();

  // Of this turn. Ranks are those of the group.
  SegmentNotes& notes(std::size_t rank) const { return heads_[rank]->notes[num_turns_ % 2]; }
  std::byte* half(std::size_t rank) const {
    return reinterpret_cast<std::byte*>(heads_[rank] + 1) + num_turns_ % 2 * half_bytes_;
  }

 private:
  static constexpr std::size_t kLineBytes = 64;

  // The beginning of a rank's segment; the data of half 0 and half 1 follow.
  struct alignas(kLineBytes) Head {
    std::atomic<std::uint64_t> num_arrivals = 0;
    alignas(kLineBytes) SegmentNotes notes[2];
  };

  std::size_t half_bytes_;
  std::vector<Head*> heads_;
  std::size_t my_rank_ = 0;
  std::uint64_t num_turns_ = 0;     // the same on every rank
  std::uint64_t num_arrivals_ = 0;  // the same on every rank, whenever none is in a call
};

}  // namespace takt
