// How many blocks a kernel gets.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/error.h"

namespace takt::cuda {

// Threads of a block where nothing speaks for another number: eight such blocks fill a multiprocessor.
inline constexpr int kBlockThreads = 256;

inline std::int64_t divide_up(std::int64_t amount, std::int64_t part) {
  return (amount + part - 1) / part;
}

// Blocks for a loop in which every thread strides over the grid: enough to fill any GPU several times, few enough that
// what a thread prepares is paid for by what it then does.
inline unsigned strided_blocks(std::int64_t num_threads, int block_threads = kBlockThreads) {
  constexpr std::int64_t kMostBlocks = 4096;
  return static_cast<unsigned>(
      std::clamp<std::int64_t>(divide_up(num_threads, block_threads), 1, kMostBlocks));
}

// One block an item; a grid has at most 2^31 - 1 along x.
inline unsigned blocks_of(std::int64_t num_items) {
  TAKT_ASSERT(num_items >= 1 && num_items <= 0x7FFFFFFF, "cuda: a grid of ", num_items, " blocks");
  return static_cast<unsigned>(num_items);
}

}  // namespace takt::cuda
