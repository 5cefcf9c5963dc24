// Collectives of groups on one host, through memory that all ranks of the group map.
// Its data passes through the segments of mpi_segments.h. A call is as many turns as its data has pieces; its
// first turn compares the signatures.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "collectives/mpi_backend.h"
#include "collectives/mpi_segments.h"
#include "collectives/reduce.h"
#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kElementBytes = 8;  // of the largest type

class MpiSharedMemory final : public MpiCommunicator {
 public:
  MpiSharedMemory(MpiGroup& group, const MpiSetting& setting, GroupMember member)
      : MpiCommunicator(group, setting, std::move(member)),
        num_ranks_(static_cast<std::size_t>(size())),
        // A half has room for at least one element of every rank.
        segments_(group,
                  std::max(size() > 1 ? setting.options.slot_bytes / 2 : 0, num_ranks_ * kElementBytes)),
        calls_(num_ranks_),
        terms_(num_ranks_) {}

 protected:
  // Rank r reduces slice r of every piece. Its own half has slice r free, so the result goes there.
  void run_all_reduce(void* buffer, const Signature& call) override {
    const std::size_t piece_elements = segments_.half_bytes() / call.element_bytes();
    run_turns(call, piece_elements, [&](std::size_t begin, std::size_t num, Stage stage) {
      std::byte* piece = static_cast<std::byte*>(buffer) + begin * call.element_bytes();
      if (stage == Stage::kWrite) return put_other_slices(piece, num, call);
      reduce_slice(piece, num, call);
      segments_.arrive_and_wait();
      take_other_slices(piece, num, call);
    });
  }

  void run_reduce_scatter(const void* send, void* receive, const Signature& call) override {
    run_turns(call, parts_elements(call), [&](std::size_t begin, std::size_t num, Stage stage) {
      const std::size_t begin_bytes = begin * call.element_bytes();
      const std::size_t num_bytes = num * call.element_bytes();
      if (stage == Stage::kWrite) return put_parts(send, begin_bytes, num_bytes, call);
      for (std::size_t r = 0; r < num_ranks_; ++r) terms_[r].data = half(r) + my_rank() * num_bytes;
      reduce_in_tree_order(static_cast<std::byte*>(receive) + begin_bytes, terms_, num, call.element_type(),
                           call.reduction());
    });
  }

  void run_all_gather(const void* send, void* receive, const Signature& call) override {
    run_turns(call, segments_.half_bytes() / call.element_bytes(),
              [&](std::size_t begin, std::size_t num, Stage stage) {
                const std::size_t begin_bytes = begin * call.element_bytes();
                const std::size_t num_bytes = num * call.element_bytes();
                const std::byte* piece = static_cast<const std::byte*>(send) + begin_bytes;
                if (stage == Stage::kWrite) {
                  std::memcpy(half(my_rank()), piece, num_bytes);
                  return;
                }
                for (std::size_t r = 0; r < num_ranks_; ++r)
                  std::memcpy(static_cast<std::byte*>(receive) + r * call.num_bytes() + begin_bytes,
                              r == my_rank() ? piece : half(r), num_bytes);
              });
  }

  void run_all_to_all(const void* send, void* receive, const Signature& call) override {
    run_turns(call, parts_elements(call), [&](std::size_t begin, std::size_t num, Stage stage) {
      const std::size_t begin_bytes = begin * call.element_bytes();
      const std::size_t num_bytes = num * call.element_bytes();
      if (stage == Stage::kWrite) return put_parts(send, begin_bytes, num_bytes, call);
      for (std::size_t r = 0; r < num_ranks_; ++r)
        std::memcpy(static_cast<std::byte*>(receive) + r * call.num_bytes() + begin_bytes,
                    half(r) + my_rank() * num_bytes, num_bytes);
    });
  }

  void run_broadcast(void* buffer, const Signature& call) override {
    run_turns(call, segments_.half_bytes() / call.element_bytes(),
              [&](std::size_t begin, std::size_t num, Stage stage) {
                std::byte* piece = static_cast<std::byte*>(buffer) + begin * call.element_bytes();
                const bool is_root = rank() == call.peer;
                const std::size_t num_bytes = num * call.element_bytes();
                if (stage == Stage::kWrite && is_root) std::memcpy(half(my_rank()), piece, num_bytes);
                if (stage == Stage::kRead && !is_root)
                  std::memcpy(piece, half(static_cast<std::size_t>(call.peer)), num_bytes);
              });
  }

  void run_barrier(const Signature& call) override {
    run_turns(call, 1, [](std::size_t, std::size_t, Stage) {});
  }

 private:
  enum class Stage { kWrite, kRead };

  std::size_t my_rank() const { return static_cast<std::size_t>(rank()); }
  // The data of a rank's half of this turn.
  std::byte* half(std::size_t rank) const { return segments_.half(rank); }
  // How many elements of every rank's part fit into a half together.
  std::size_t parts_elements(const Signature& call) const {
    return segments_.half_bytes() / (num_ranks_ * call.element_bytes());
  }

  // One turn a piece of the call's elements, and one turn if there are none: work(first element, number, stage).
  template <class Work>
  void run_turns(const Signature& call, std::size_t piece_elements, const Work& work) {
    for (std::size_t begin = 0; begin == 0 || begin < call.num_elements; begin += piece_elements) {
      const std::size_t num = std::min<std::size_t>(piece_elements, call.num_elements - begin);
      segments_.next_turn();
      if (begin == 0) segments_.notes(my_rank()).call = call;
      if (num > 0) work(begin, num, Stage::kWrite);
      segments_.arrive_and_wait();
      if (begin == 0) compare(call);
      if (num > 0) work(begin, num, Stage::kRead);
    }
  }

  void compare(const Signature& call) {
    for (std::size_t r = 0; r < num_ranks_; ++r) calls_[r] = segments_.notes(r).call;
    require_same_calls(calls_);
    if (call.operation == Operation::kAllReduce || call.operation == Operation::kReduceScatter)
      require_reducible(call.element_type());
  }

  void put_parts(const void* send, std::size_t begin_bytes, std::size_t num_bytes, const Signature& call) {
    for (std::size_t r = 0; r < num_ranks_; ++r)
      std::memcpy(half(my_rank()) + r * num_bytes,
                  static_cast<const std::byte*>(send) + r * call.num_bytes() + begin_bytes, num_bytes);
  }

  // Copies `piece` except this rank's slice, which nobody else needs.
  void put_other_slices(const std::byte* piece, std::size_t num, const Signature& call) {
    const Slice mine = slice_of(num, rank(), size());
    const std::size_t begin = mine.begin * call.element_bytes();
    const std::size_t end = mine.end * call.element_bytes();
    std::memcpy(half(my_rank()), piece, begin);
    std::memcpy(half(my_rank()) + end, piece + end, num * call.element_bytes() - end);
  }

  void reduce_slice(std::byte* piece, std::size_t num, const Signature& call) {
    const Slice mine = slice_of(num, rank(), size());
    const std::size_t begin = mine.begin * call.element_bytes();
    for (std::size_t r = 0; r < num_ranks_; ++r) terms_[r].data = (r == my_rank() ? piece : half(r)) + begin;
    reduce_in_tree_order(piece + begin, terms_, mine.num_elements(), call.element_type(), call.reduction());
    std::memcpy(half(my_rank()) + begin, piece + begin, mine.num_elements() * call.element_bytes());
  }

  void take_other_slices(std::byte* piece, std::size_t num, const Signature& call) {
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      const Slice theirs = slice_of(num, r, size());
      const std::size_t begin = theirs.begin * call.element_bytes();
      std::memcpy(piece + begin, half(static_cast<std::size_t>(r)) + begin,
                  theirs.num_elements() * call.element_bytes());
    }
  }

  std::size_t num_ranks_;
  HostSegments segments_;
  std::vector<Signature> calls_;   // scratch of compare
  std::vector<ReduceTerm> terms_;  // scratch of reductions
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_shared_memory(MpiGroup& group, const MpiSetting& setting,
                                                     GroupMember member) {
  return std::make_unique<MpiSharedMemory>(group, setting, std::move(member));
}

}  // namespace takt
