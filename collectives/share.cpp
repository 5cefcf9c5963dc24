// Texts travel as their length, then their bytes.
#include "collectives/share.h"

#include <xxhash.h>

#include <cstdint>

#include "core/base/error.h"

namespace takt {
namespace {

// One number of every rank, in rank order.
std::vector<std::uint64_t> gather_numbers(Communicator& comm, std::uint64_t number, std::string_view what) {
  std::vector<std::uint64_t> all(static_cast<std::size_t>(comm.size()));
  comm.all_gather(&number, all.data(), sizeof(number), DType::kU8, {what});
  return all;
}

}  // namespace

std::string share_text(Communicator& comm, const std::string& text, int root) {
  std::uint64_t num_characters = text.size();
  comm.broadcast(&num_characters, sizeof(num_characters), DType::kU8, root, {"length of a shared text"});
  std::string shared = comm.rank() == root ? text : std::string(num_characters, '\0');
  comm.broadcast(shared.data(), shared.size(), DType::kU8, root, {"a shared text"});
  return shared;
}

std::vector<std::string> gather_texts(Communicator& comm, const std::string& text, int root) {
  const std::vector<std::uint64_t> lengths = gather_numbers(comm, text.size(), "lengths of gathered texts");
  std::vector<std::string> texts;
  const CallSite at{"a gathered text"};
  if (comm.rank() != root) {
    comm.send(text.data(), text.size(), DType::kU8, root, at);
    return texts;
  }
  for (int rank = 0; rank < comm.size(); ++rank) {
    texts.emplace_back(rank == root ? text : std::string(lengths[static_cast<std::size_t>(rank)], '\0'));
    if (rank != root) comm.receive(texts.back().data(), texts.back().size(), DType::kU8, rank, at);
  }
  return texts;
}

void require_same(Communicator& comm, std::string_view text, std::string_view what) {
  const std::vector<std::uint64_t> all = gather_numbers(comm, XXH3_64bits(text.data(), text.size()), what);
  for (std::size_t r = 1; r < all.size(); ++r) {
    if (all[r] == all[0]) continue;
    Error error(Fault::kConfig, concat(what, ": rank ", r, " has another one than rank 0",
                                       "\n  all ranks must see the same files, flags and TAKT_ variables"));
    error.set_agreed();
    throw error;
  }
}

}  // namespace takt
