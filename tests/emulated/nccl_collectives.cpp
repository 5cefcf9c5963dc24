// The collectives. Reductions follow one tree over the ranks, on both ways.
#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/emulated/nccl_comm.h"
#include "tests/emulated/nccl_reduce.h"

namespace takt::emulated {
namespace {

std::string text_of(const CallRecord& call) {
  return std::string(name_of(call.kind)) + " count " + std::to_string(call.count) + " type " +
         std::to_string(call.type) + " op " + std::to_string(call.op) + " root " + std::to_string(call.root);
}

void copy(void* to, const void* from, std::size_t num_bytes) {
  if (to != from && num_bytes > 0) std::memmove(to, from, num_bytes);
}

// One operation of one rank.
class Collective {
 public:
  Collective(Comm& comm, const Work& work)
      : comm_(comm),
        work_(work),
        type_(static_cast<ncclDataType_t>(work.call.type)),
        op_(static_cast<ncclRedOp_t>(work.call.op)),
        num_ranks_(static_cast<std::size_t>(comm.num_ranks())),
        rank_(static_cast<std::size_t>(comm.rank())),
        bytes_(element_bytes(type_)),
        count_(static_cast<std::size_t>(work.call.count)),
        terms_(num_ranks_) {}

  // All ranks are in the same operation.
  bool agree(uint64_t sequence) {
    Slot& mine = comm_.slot();
    mine.call = work_.call;
    mine.send = work_.send;
    mine.result = nullptr;
    mine.sequence = sequence;
    if (!meet()) return false;
    const CallRecord& first = comm_.region().slot(0).call;
    if (first == work_.call) return true;
    comm_.fail(ncclInvalidUsage, comm_.name() + ": operation " + std::to_string(sequence) +
                                     " differs: rank 0 " + text_of(first) + ", rank " +
                                     std::to_string(rank_) + " " + text_of(work_.call));
    return false;
  }

  bool run_among_threads() {
    switch (work_.call.kind) {
      case Kind::kAllReduce:
      case Kind::kReduce:
        return reduce_shares();
      case Kind::kReduceScatter:
        return reduce_scatter();
      case Kind::kAllGather:
        for (std::size_t rank = 0; rank < num_ranks_; ++rank) take(rank, sent(rank), count_);
        return meet();
      case Kind::kAllToAll:
        return exchange();
      case Kind::kBroadcast:
        copy(work_.receive, sent(static_cast<std::size_t>(work_.call.root)), count_ * bytes_);
        return meet();
      case Kind::kMessages:
        break;
    }
    return false;
  }

  bool run_through_chunks() {
    const bool has_parts = work_.call.kind == Kind::kReduceScatter || work_.call.kind == Kind::kAllToAll;
    const std::size_t chunk = comm_.region().chunk_bytes() / bytes_;
    const std::size_t most = has_parts ? std::max<std::size_t>(1, chunk / num_ranks_) : chunk;
    for (std::size_t begin = 0; begin < count_; begin += most)
      if (!run_chunk(begin, std::min(most, count_ - begin), has_parts)) return false;
    return true;
  }

 private:
  bool meet() { return comm_.meet(comm_.region().head().on_device); }
  const std::byte* sent(std::size_t rank) {
    return static_cast<const std::byte*>(comm_.region().slot(static_cast<int>(rank)).send);
  }
  std::byte* received(std::size_t element) {
    return static_cast<std::byte*>(work_.receive) + element * bytes_;
  }
  void take(std::size_t part, const void* from, std::size_t num) {
    copy(received(part * count_), from, num * bytes_);
  }

  // Each rank reduces a share, and all fetch it: nobody writes what another one still reads.
  bool reduce_shares() {
    const auto begin = [&](std::size_t rank) { return count_ * rank / num_ranks_; };
    const std::size_t mine = begin(rank_), num = begin(rank_ + 1) - mine;
    std::vector<std::byte> share(num * bytes_);
    reduce_sent(share.data(), mine, num);
    comm_.slot().result = share.data();
    if (!meet()) return false;
    const bool receives = work_.call.kind == Kind::kAllReduce || comm_.rank() == work_.call.root;
    for (std::size_t rank = 0; rank < num_ranks_ && receives; ++rank)
      copy(received(begin(rank)), comm_.region().slot(static_cast<int>(rank)).result,
           (begin(rank + 1) - begin(rank)) * bytes_);
    return meet();
  }

  bool reduce_scatter() {
    std::vector<std::byte> share(count_ * bytes_);
    reduce_sent(share.data(), rank_ * count_, count_);
    if (!meet()) return false;
    copy(work_.receive, share.data(), share.size());
    return true;
  }

  bool exchange() {
    for (std::size_t rank = 0; rank < num_ranks_; ++rank)
      take(rank, sent(rank) + rank_ * count_ * bytes_, count_);
    return meet();
  }

  void reduce_sent(void* out, std::size_t begin, std::size_t num) {
    for (std::size_t rank = 0; rank < num_ranks_; ++rank) terms_[rank] = sent(rank) + begin * bytes_;
    if (num > 0) reduce_ranks(out, terms_, num, type_, op_);
  }

  // Elements [begin, begin + num) of every part, all ranks at once.
  bool run_chunk(std::size_t begin, std::size_t num, bool has_parts) {
    std::byte* const mine = comm_.region().chunk(comm_.rank());
    const auto* const send = static_cast<const std::byte*>(work_.send);
    const bool is_root = comm_.rank() == work_.call.root;
    for (std::size_t part = 0; part < num_ranks_ && has_parts; ++part)
      copy(mine + part * num * bytes_, send + (part * count_ + begin) * bytes_, num * bytes_);
    if (!has_parts && (work_.call.kind != Kind::kBroadcast || is_root))
      copy(mine, send + begin * bytes_, num * bytes_);
    if (!meet()) return false;
    receive_chunk(begin, num);
    return meet();
  }

  void receive_chunk(std::size_t begin, std::size_t num) {
    const auto chunk = [&](std::size_t rank, std::size_t part) -> const std::byte* {
      return comm_.region().chunk(static_cast<int>(rank)) + part * num * bytes_;
    };
    const Kind kind = work_.call.kind;
    const std::size_t part = kind == Kind::kReduceScatter || kind == Kind::kAllToAll ? rank_ : 0;
    const bool is_root = comm_.rank() == work_.call.root;
    if (kind == Kind::kBroadcast)
      return copy(received(begin), chunk(static_cast<std::size_t>(work_.call.root), 0), num * bytes_);
    if (kind == Kind::kAllGather || kind == Kind::kAllToAll) {
      for (std::size_t rank = 0; rank < num_ranks_; ++rank)
        copy(received(rank * count_ + begin), chunk(rank, part), num * bytes_);
      return;
    }
    for (std::size_t rank = 0; rank < num_ranks_; ++rank) terms_[rank] = chunk(rank, part);
    if (kind != Kind::kReduce || is_root) reduce_ranks(received(begin), terms_, num, type_, op_);
  }

  Comm& comm_;
  const Work& work_;
  ncclDataType_t type_;
  ncclRedOp_t op_;
  std::size_t num_ranks_, rank_, bytes_, count_;
  std::vector<const void*> terms_;
};

}  // namespace

bool run_collective(Comm& comm, const Work& work, uint64_t sequence) {
  Collective collective(comm, work);
  if (!collective.agree(sequence)) return false;
  return comm.is_among_threads() ? collective.run_among_threads() : collective.run_through_chunks();
}

}  // namespace takt::emulated
