// Collectives of groups that span hosts, by MPI messages.
//
// MPI_Allreduce may add in any order, so a reduction is: slices to their owners (all-to-all), a sum in
// tree order on each owner, results back to everybody (all-gather). That moves no more bytes than a ring
// all-reduce. Data passes through two scratch buffers of a fixed size, so that counts stay small and nothing
// is allocated. Source: Rabenseifner 2004, "Optimization of collective reduction operations" (reduce-scatter,
// then all-gather).
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "collectives/mpi_backend.h"
#include "collectives/reduce.h"
#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kElementBytes = 8;  // of the largest type

class MpiMessages final : public MpiCommunicator {
 public:
  MpiMessages(MpiGroup& group, const MpiSetting& setting, GroupMember member)
      : MpiCommunicator(group, setting, std::move(member)),
        num_ranks_(static_cast<std::size_t>(size())),
        // All-to-all needs room for at least one element of every rank.
        scratch_bytes_(size() > 1 ? std::max(setting.options.scratch_bytes, num_ranks_ * kElementBytes) : 0),
        outgoing_(scratch_bytes_),
        incoming_(scratch_bytes_),
        calls_(num_ranks_),
        terms_(num_ranks_) {
    TAKT_REQUIRE(scratch_bytes_ <= kMaxScratchBytes, "mpi: scratch is ", scratch_bytes_,
                 " bytes, wanted at most ", kMaxScratchBytes);
  }

 protected:
  void run_all_reduce(void* buffer, const Signature& call) override {
    compare(call);
    require_reducible(call.element_type());
    auto* data = static_cast<std::byte*>(buffer);
    const std::size_t piece = piece_elements(call) * num_ranks_;  // of one rank, cut into slices for all
    for (std::size_t begin = 0; begin < call.num_elements; begin += piece) {
      const std::size_t num = std::min<std::size_t>(piece, call.num_elements - begin);
      all_reduce_piece(data + begin * call.element_bytes(), num, call);
    }
  }

  void run_reduce_scatter(const void* send, void* receive, const Signature& call) override {
    compare(call);
    require_reducible(call.element_type());
    for_each_piece(call, [&](std::size_t begin, std::size_t num) {
      exchange_parts(static_cast<const std::byte*>(send), begin, num, call);
      reduce_incoming(static_cast<std::byte*>(receive) + begin, num, call);
    });
  }

  void run_all_gather(const void* send, void* receive, const Signature& call) override {
    compare(call);
    for_each_piece(call, [&](std::size_t begin, std::size_t num) {
      const auto count = static_cast<int>(num);
      TAKT_MPI(MPI_Allgather(static_cast<const std::byte*>(send) + begin, count, MPI_BYTE, incoming_.data(),
                             count, MPI_BYTE, comm()));
      unpack(static_cast<std::byte*>(receive), begin, num, call);
    });
  }

  void run_all_to_all(const void* send, void* receive, const Signature& call) override {
    compare(call);
    for_each_piece(call, [&](std::size_t begin, std::size_t num) {
      exchange_parts(static_cast<const std::byte*>(send), begin, num, call);
      unpack(static_cast<std::byte*>(receive), begin, num, call);
    });
  }

  void run_broadcast(void* buffer, const Signature& call) override {
    compare(call);
    auto* data = static_cast<std::byte*>(buffer);
    for (std::size_t begin = 0; begin < call.num_bytes(); begin += scratch_bytes_) {
      const auto count = static_cast<int>(std::min(scratch_bytes_, call.num_bytes() - begin));
      TAKT_MPI(MPI_Bcast(data + begin, count, MPI_BYTE, call.peer, comm()));
    }
  }

  void run_barrier(const Signature& call) override { compare(call); }

 private:
  static constexpr std::size_t kMaxScratchBytes = std::size_t{1} << 30;  // MPI counts are int

  void compare(const Signature& call) {
    TAKT_MPI(MPI_Allgather(&call, sizeof(call), MPI_BYTE, calls_.data(), sizeof(call), MPI_BYTE, comm()));
    require_same_calls(calls_);
  }

  // How many elements of each rank fit into the scratch at once.
  std::size_t piece_elements(const Signature& call) const {
    return scratch_bytes_ / (num_ranks_ * call.element_bytes());
  }

  // Visits a rank's part piece by piece: work(first byte within the part, number of bytes).
  template <class Work>
  void for_each_piece(const Signature& call, const Work& work) {
    const std::size_t piece_bytes = piece_elements(call) * call.element_bytes();
    for (std::size_t begin = 0; begin < call.num_bytes(); begin += piece_bytes)
      work(begin, std::min(piece_bytes, call.num_bytes() - begin));
  }

  // Piece `begin` of part r goes to rank r; what rank r sent is then at incoming_ + r * num_bytes.
  void exchange_parts(const std::byte* send, std::size_t begin, std::size_t num_bytes,
                      const Signature& call) {
    for (std::size_t r = 0; r < num_ranks_; ++r)
      std::memcpy(outgoing_.data() + r * num_bytes, send + r * call.num_bytes() + begin, num_bytes);
    const auto count = static_cast<int>(num_bytes);
    TAKT_MPI(MPI_Alltoall(outgoing_.data(), count, MPI_BYTE, incoming_.data(), count, MPI_BYTE, comm()));
  }

  void reduce_incoming(std::byte* out, std::size_t num_bytes, const Signature& call) {
    for (std::size_t r = 0; r < num_ranks_; ++r) terms_[r].data = incoming_.data() + r * num_bytes;
    reduce_in_tree_order(out, terms_, num_bytes / call.element_bytes(), call.element_type(),
                         call.reduction());
  }

  void unpack(std::byte* receive, std::size_t begin, std::size_t num_bytes, const Signature& call) {
    for (std::size_t r = 0; r < num_ranks_; ++r)
      std::memcpy(receive + r * call.num_bytes() + begin, incoming_.data() + r * num_bytes, num_bytes);
  }

  // The buffer of `num` elements is cut into equal slices, the last ones padded with whatever the scratch
  // holds.
  void all_reduce_piece(std::byte* buffer, std::size_t num, const Signature& call) {
    const std::size_t num_bytes = num * call.element_bytes();
    const std::size_t slice_bytes = (num + num_ranks_ - 1) / num_ranks_ * call.element_bytes();
    const auto count = static_cast<int>(slice_bytes);
    std::memcpy(outgoing_.data(), buffer, num_bytes);
    TAKT_MPI(MPI_Alltoall(outgoing_.data(), count, MPI_BYTE, incoming_.data(), count, MPI_BYTE, comm()));
    reduce_incoming(outgoing_.data(), slice_bytes, call);
    TAKT_MPI(MPI_Allgather(outgoing_.data(), count, MPI_BYTE, incoming_.data(), count, MPI_BYTE, comm()));
    std::memcpy(buffer, incoming_.data(), num_bytes);
  }

  std::size_t num_ranks_;
  std::size_t scratch_bytes_;
  std::vector<std::byte> outgoing_;
  std::vector<std::byte> incoming_;
  std::vector<Signature> calls_;
  std::vector<ReduceTerm> terms_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_messages(MpiGroup& group, const MpiSetting& setting,
                                                GroupMember member) {
  return std::make_unique<MpiMessages>(group, setting, std::move(member));
}

}  // namespace takt
