// A dataset is read whole only once, however many ranks there are. That each rank sees the files the others
// see is checked by their layout alone: the hash is of what all ranks saw together.
#include "core/state/block_hash.h"

#include <xxhash.h>

#include <string>
#include <vector>

#include "collectives/agree.h"
#include "collectives/share.h"

namespace takt {
namespace {

// Contiguous, so that a rank reads its part of a file forwards.
void hash_slice(std::vector<std::uint64_t>& hashes,
                const std::function<std::uint64_t(std::int64_t block)>& hash_block, int slice,
                int num_slices) {
  const auto num_blocks = static_cast<std::int64_t>(hashes.size());
  const std::int64_t begin = num_blocks * slice / num_slices, end = num_blocks * (slice + 1) / num_slices;
  for (std::int64_t block = begin; block < end; ++block)
    hashes[static_cast<std::size_t>(block)] = hash_block(block);
}

}  // namespace

std::uint64_t hash_blocks(std::string_view layout, std::int64_t num_blocks,
                          const std::function<std::uint64_t(std::int64_t block)>& hash_block,
                          Communicator* comm) {
  if (comm != nullptr) require_same(*comm, layout, "the size of the data");
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(num_blocks), 0);
  if (comm == nullptr) {
    hash_slice(hashes, hash_block, 0, 1);
  } else {
    agree(*comm, [&] { hash_slice(hashes, hash_block, comm->rank(), comm->size()); });
    // One rank has a block's hash, the others zeros.
    if (!hashes.empty())
      comm->all_reduce(hashes.data(), 2 * hashes.size(), DType::kI32, ReduceOp::kSum, {"hashes of the data"});
  }
  std::string all(layout);
  all.append(reinterpret_cast<const char*>(hashes.data()), hashes.size() * sizeof(std::uint64_t));
  return XXH3_64bits(all.data(), all.size());
}

}  // namespace takt
