// hash_blocks: one hash of a dataset, to which every rank contributes a slice.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "collectives/communicator.h"

namespace takt {

// Bytes of a dataset that are hashed at once. Part of the definition of content hashes: it never changes.
inline constexpr std::int64_t kHashBlockBytes = std::int64_t{4} << 20;

// The hash of `layout` and of all blocks' hashes in order, so that it does not depend on the number of ranks.
// Each rank of `comm` computes the blocks of its slice; null: this process all of them. A block that throws
// fails all ranks with its Error. Throws kConfig unless all ranks have the same layout, the text that says of
// what and how much there are blocks. Every rank calls it, outside of another agree().
std::uint64_t hash_blocks(std::string_view layout, std::int64_t num_blocks,
                          const std::function<std::uint64_t(std::int64_t block)>& hash_block,
                          Communicator* comm);

}  // namespace takt
