// Collectives of groups that span hosts: shared memory inside a host, MPI messages between hosts.
//
// A piece of data is cut into one slice a rank. A rank owns its slice on its own host; on every other host
// one rank, the slice's carrier there, stands for it, so that the work is spread evenly. A reduction is: all
// write their piece into shared memory; the carriers on each host add up what their host has of a slice and
// send only that to the owner; the owner finishes the sum (reduce.h: the tree's nodes that lie on one host
// are added there, the rest by the owner, so no bit depends on the hosts). Results go back the same way:
// owner to carriers, which put them into shared memory for their host. Each host thus sends and receives a
// piece about twice whatever the number of its ranks, where a flat exchange does so once for each of them.
// MPI_Allreduce is not used, for it may add in any order and waits forever. Sources: Rabenseifner 2004,
// "Optimization of collective reduction operations" (reduce-scatter, then all-gather); van de Geijn 1994
// (broadcast as scatter, then all-gather).
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "collectives/host_layout.h"
#include "collectives/mpi_backend.h"
#include "collectives/mpi_segments.h"
#include "collectives/reduce.h"
#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kElementBytes = 8;                        // of the largest type
constexpr std::size_t kMaxScratchBytes = std::size_t{1} << 28;  // MPI counts are int
constexpr std::size_t kMaxPartBytes = std::size_t{1} << 30;     // of one message
constexpr int kVerdictTag = 3, kPartialTag = 4, kResultTag = 5, kPartTag = 6;

using Verdict = std::array<Signature, 2>;  // the first call, and one that differs from it, if there is one

// Verdicts over ranks are merged in a fixed order, so that all ranks report the same two calls.
void merge(Verdict& verdict, const Verdict& next) {
  if (!same_call(verdict[0], verdict[1])) return;
  verdict[1] = same_call(verdict[0], next[0]) ? next[1] : next[0];
}

struct ByteRange {
  std::size_t begin = 0;
  std::size_t num_bytes = 0;
};

class MpiMessages final : public MpiCommunicator {
 public:
  MpiMessages(MpiGroup& group, MpiGroup& on_host, HostLayout layout, const MpiSetting& setting,
              GroupMember member)
      : MpiCommunicator(group, setting, std::move(member)),
        layout_(std::move(layout)),
        my_host_(layout_.host_of(rank())),
        num_ranks_(static_cast<std::size_t>(size())),
        segments_(on_host, std::max(setting.options.scratch_bytes, num_ranks_ * kElementBytes)),
        slices_(num_ranks_),
        verdicts_(static_cast<std::size_t>(layout_.num_hosts())),
        nodes_of_host_(static_cast<std::size_t>(layout_.num_hosts())),
        terms_(num_ranks_) {
    TAKT_REQUIRE(segments_.half_bytes() <= kMaxScratchBytes, "mpi: scratch is ", segments_.half_bytes(),
                 " bytes, wanted at most ", kMaxScratchBytes);
    std::size_t num_carried = 0;
    for (int r = 0; r < size(); ++r)
      if (carries(r)) ++num_carried;
    const std::size_t slice_bytes = segments_.half_bytes() / num_ranks_ + kElementBytes;  // at most
    incoming_.resize(layout_.nodes().size() * slice_bytes);
    outgoing_.resize(num_carried * layout_.num_nodes_on(my_host_) * slice_bytes);
  }

 protected:
  void run_all_reduce(void* buffer, const Signature& call) override {
    compare(call);
    require_reducible(call.element_type());
    const std::size_t unit = call.element_bytes();
    for_each_piece(call.num_elements, segments_.half_bytes() / unit, [&](std::size_t begin, std::size_t num) {
      std::byte* piece = static_cast<std::byte*>(buffer) + begin * unit;
      cut_evenly(num, unit);
      segments_.next_turn();
      std::memcpy(my_half(), piece, num * unit);
      segments_.arrive_and_wait();
      reduce_slices(my_half() + my_slice().begin, call);
      spread_slices(call);
      for (int r = 0; r < size(); ++r)
        std::memcpy(piece + slice(r).begin, spread_slice(r), slice(r).num_bytes);
    });
  }

  void run_reduce_scatter(const void* send, void* receive, const Signature& call) override {
    compare(call);
    require_reducible(call.element_type());
    for_each_part_piece(call, [&](std::size_t begin) {
      segments_.next_turn();
      for (int r = 0; r < size(); ++r)
        std::memcpy(my_half() + slice(r).begin, part(send, r, call) + begin, slice(r).num_bytes);
      segments_.arrive_and_wait();
      reduce_slices(static_cast<std::byte*>(receive) + begin, call);
    });
  }

  void run_all_gather(const void* send, void* receive, const Signature& call) override {
    compare(call);
    for_each_part_piece(call, [&](std::size_t begin) {
      segments_.next_turn();
      std::memcpy(my_half() + my_slice().begin, static_cast<const std::byte*>(send) + begin,
                  my_slice().num_bytes);
      spread_slices(call);
      for (int r = 0; r < size(); ++r)
        std::memcpy(part(receive, r, call) + begin, spread_slice(r), slice(r).num_bytes);
    });
  }

  // Nothing is saved by a stage inside the host: every byte has one receiver.
  void run_all_to_all(const void* send, void* receive, const Signature& call) override {
    compare(call);
    for_each_piece(call.num_bytes(), kMaxPartBytes, [&](std::size_t begin, std::size_t num_bytes) {
      for (int r = 0; r < size(); ++r)
        if (r != rank()) exchange().receive(part(receive, r, call) + begin, num_bytes, r, kPartTag);
      for (int r = 0; r < size(); ++r)
        if (r != rank()) exchange().send(part(send, r, call) + begin, num_bytes, r, kPartTag);
      std::memcpy(part(receive, rank(), call) + begin, part(send, rank(), call) + begin, num_bytes);
      exchange().wait(call);
    });
  }

  void run_broadcast(void* buffer, const Signature& call) override {
    compare(call);
    const bool is_root = rank() == call.peer;
    for_each_piece(call.num_bytes(), segments_.half_bytes(), [&](std::size_t begin, std::size_t num_bytes) {
      std::byte* piece = static_cast<std::byte*>(buffer) + begin;
      cut_evenly(num_bytes, 1);
      segments_.next_turn();
      std::byte* mine = my_half() + my_slice().begin;
      if (is_root) std::memcpy(mine, piece + my_slice().begin, my_slice().num_bytes);
      if (!is_root) exchange().receive(mine, my_slice().num_bytes, call.peer, kPartTag);
      for (int r = 0; is_root && r < size(); ++r)
        if (r != rank()) exchange().send(piece + slice(r).begin, slice(r).num_bytes, r, kPartTag);
      exchange().wait(call);
      spread_slices(call);
      for (int r = 0; !is_root && r < size(); ++r)
        std::memcpy(piece + slice(r).begin, spread_slice(r), slice(r).num_bytes);
    });
  }

  void run_barrier(const Signature& call) override { compare(call); }

 private:
  std::size_t on_host(int rank) const { return static_cast<std::size_t>(layout_.index_on_host(rank)); }
  std::byte* my_half() const { return segments_.half(on_host(rank())); }
  const ByteRange& slice(int rank) const { return slices_[static_cast<std::size_t>(rank)]; }
  const ByteRange& my_slice() const { return slice(rank()); }
  // Of another host's rank.
  bool carries(int other) const {
    return layout_.host_of(other) != my_host_ && layout_.carrier(other, my_host_) == rank();
  }
  static std::byte* part(void* buffer, int rank, const Signature& call) {
    return static_cast<std::byte*>(buffer) + static_cast<std::size_t>(rank) * call.num_bytes();
  }
  static const std::byte* part(const void* buffer, int rank, const Signature& call) {
    return static_cast<const std::byte*>(buffer) + static_cast<std::size_t>(rank) * call.num_bytes();
  }

  // Inside each host all compare with their lowest rank; the hosts' lowest ranks compare with each other.
  void compare(const Signature& call) {
    segments_.next_turn();
    segments_.notes(on_host(rank())).call = call;
    segments_.arrive_and_wait();
    if (on_host(rank()) == 0) segments_.notes(0).two = verdict_over_hosts(call);
    segments_.arrive_and_wait();
    const Verdict& verdict = segments_.notes(0).two;
    if (!same_call(verdict[0], verdict[1])) fail(Fault::kPeer, mismatch_text(verdict[0], verdict[1]));
  }

  Verdict verdict_over_hosts(const Signature& call) {
    Verdict& mine = verdicts_[static_cast<std::size_t>(my_host_)];
    mine = {call, call};
    for (std::size_t i = 1; i < segments_.num_ranks(); ++i) {
      const Signature& other = segments_.notes(i).call;
      merge(mine, {other, other});
    }
    for (int host = 0; host < layout_.num_hosts(); ++host) {
      if (host == my_host_) continue;
      const int leader = layout_.ranks_on(host)[0];
      exchange().receive(&verdicts_[static_cast<std::size_t>(host)], sizeof(Verdict), leader, kVerdictTag);
      exchange().send(&mine, sizeof(Verdict), leader, kVerdictTag);
    }
    exchange().wait(call);
    Verdict verdict = verdicts_[0];
    for (std::size_t host = 1; host < verdicts_.size(); ++host) merge(verdict, verdicts_[host]);
    return verdict;
  }

  // work(begin, num) for pieces of at most `most` of `total`.
  template <class Work>
  static void for_each_piece(std::size_t total, std::size_t most, const Work& work) {
    for (std::size_t begin = 0; begin < total; begin += most) work(begin, std::min(most, total - begin));
  }

  // Pieces of all ranks' parts that fit into a half together; a slice is a rank's: work(first byte in the part).
  template <class Work>
  void for_each_part_piece(const Signature& call, const Work& work) {
    const std::size_t unit = call.element_bytes();
    const std::size_t most = segments_.half_bytes() / (num_ranks_ * unit) * unit;
    for_each_piece(call.num_bytes(), most, [&](std::size_t begin, std::size_t num_bytes) {
      for (std::size_t r = 0; r < num_ranks_; ++r) slices_[r] = {r * num_bytes, num_bytes};
      work(begin);
    });
  }

  void cut_evenly(std::size_t num_elements, std::size_t element_bytes) {
    for (int r = 0; r < size(); ++r) {
      const Slice share = slice_of(num_elements, r, size());
      slices_[static_cast<std::size_t>(r)] = {share.begin * element_bytes,
                                              share.num_elements() * element_bytes};
    }
  }

  // Everybody's data is in the halves. out: the reduction of this rank's slice. Of other slices a rank reads
  // only what it carries, and of the halves of its host only this: so the owner may write its slice at once.
  void reduce_slices(std::byte* out, const Signature& call) {
    std::byte* scratch = incoming_.data();
    for (int host = 0; host < layout_.num_hosts(); ++host) {
      if (host == my_host_) continue;
      const std::size_t num_bytes = layout_.num_nodes_on(host) * my_slice().num_bytes;
      exchange().receive(scratch, num_bytes, layout_.carrier(rank(), host), kPartialTag);
      nodes_of_host_[static_cast<std::size_t>(host)] = scratch;
      scratch += num_bytes;
    }
    nodes_of_host_[static_cast<std::size_t>(my_host_)] = reduce_on_host(scratch, my_slice(), call);
    scratch = outgoing_.data();
    for (int r = 0; r < size(); ++r) {
      if (!carries(r)) continue;
      const std::size_t num_bytes = layout_.num_nodes_on(my_host_) * slice(r).num_bytes;
      exchange().send(reduce_on_host(scratch, slice(r), call), num_bytes, r, kPartialTag);
      scratch += num_bytes;
    }
    exchange().wait(call);
    std::size_t num_terms = 0;
    for (const HostNode& node : layout_.nodes())
      terms_[num_terms++] = {
          nodes_of_host_[static_cast<std::size_t>(node.host)] + node.index_on_host * my_slice().num_bytes,
          static_cast<std::size_t>(node.num_ranks)};
    reduce(out, num_terms, my_slice(), call);
  }

  // This host's nodes of the tree, one after the other; in `scratch`, unless there is nothing to add.
  const std::byte* reduce_on_host(std::byte* scratch, const ByteRange& slice, const Signature& call) {
    if (segments_.num_ranks() == 1) return my_half() + slice.begin;
    std::byte* out = scratch;
    for (const HostNode& node : layout_.nodes()) {
      if (node.host != my_host_) continue;
      for (int i = 0; i < node.num_ranks; ++i)
        terms_[static_cast<std::size_t>(i)] = {segments_.half(on_host(node.first_rank + i)) + slice.begin};
      reduce(out, static_cast<std::size_t>(node.num_ranks), slice, call);
      out += slice.num_bytes;
    }
    return scratch;
  }

  void reduce(std::byte* out, std::size_t num_terms, const ByteRange& slice, const Signature& call) {
    reduce_in_tree_order(out, std::span(terms_).first(num_terms), slice.num_bytes / call.element_bytes(),
                         call.element_type(), call.reduction());
  }

  // Every owner's slice is in its half; afterwards every slice is in a half of this host.
  void spread_slices(const Signature& call) {
    for (int r = 0; r < size(); ++r)
      if (carries(r)) exchange().receive(my_half() + slice(r).begin, slice(r).num_bytes, r, kResultTag);
    for (int host = 0; host < layout_.num_hosts(); ++host)
      if (host != my_host_)
        exchange().send(my_half() + my_slice().begin, my_slice().num_bytes, layout_.carrier(rank(), host),
                        kResultTag);
    exchange().wait(call);
    segments_.arrive_and_wait();
  }
  const std::byte* spread_slice(int r) const {
    return segments_.half(on_host(layout_.carrier(r, my_host_))) + slice(r).begin;
  }

  HostLayout layout_;
  int my_host_;
  std::size_t num_ranks_;
  HostSegments segments_;
  std::vector<ByteRange> slices_;                // of the current piece, by rank
  std::vector<Verdict> verdicts_;                // by host
  std::vector<const std::byte*> nodes_of_host_;  // of this rank's slice, by host
  std::vector<std::byte> incoming_;              // the nodes of this rank's slice
  std::vector<std::byte> outgoing_;              // the nodes of the slices it carries
  std::vector<ReduceTerm> terms_;                // scratch of reductions
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_messages(MpiGroup& group, MpiGroup& on_host, HostLayout layout,
                                                const MpiSetting& setting, GroupMember member) {
  return std::make_unique<MpiMessages>(group, on_host, std::move(layout), setting, std::move(member));
}

}  // namespace takt
