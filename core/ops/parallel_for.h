// Loops over independent rows, spread over the rank's CPU threads.
#pragma once

#include <cstdint>
#include <exception>

namespace takt {

// Calls body(i) for i in [0, num_items), each once, on up to num_threads threads. Every item is computed by one thread
// in one order, so results do not depend on num_threads. If bodies throw, the exception of the first item that did is
// thrown when all threads are done.
template <class Body>
void parallel_for(int num_threads, std::int64_t num_items, const Body& body) {
  if (num_threads <= 1 || num_items <= 1) {
    for (std::int64_t i = 0; i < num_items; ++i) body(i);
    return;
  }
  std::exception_ptr error;  // an exception that leaves a parallel region ends the process
  std::int64_t failed_item = num_items;
#pragma omp parallel for num_threads(num_threads) schedule(static)
  for (std::int64_t i = 0; i < num_items; ++i) try {
      body(i);
    } catch (...) {
#pragma omp critical(takt_parallel_for)
      if (i < failed_item) {
        failed_item = i;
        error = std::current_exception();
      }
    }
  if (error) std::rethrow_exception(error);
}

// The same over [0, num_items) in blocks: body(first, last). For elementwise loops that should vectorise.
template <class Body>
void parallel_blocks(int num_threads, std::int64_t num_items, const Body& body) {
  constexpr std::int64_t kBlock = 1 << 14;
  const std::int64_t num_blocks = (num_items + kBlock - 1) / kBlock;
  parallel_for(num_threads, num_blocks, [&](std::int64_t block) {
    const std::int64_t first = block * kBlock;
    body(first, first + kBlock < num_items ? first + kBlock : num_items);
  });
}

inline constexpr std::int64_t kColumns = 64;  // that one thread sums over rows at once, in order

// Calls body(first, columns) for [0, width) in blocks of at most kColumns columns.
template <class Body>
void parallel_columns(int num_threads, std::int64_t width, const Body& body) {
  parallel_for(num_threads, (width + kColumns - 1) / kColumns, [&](std::int64_t block) {
    const std::int64_t first = block * kColumns;
    body(first, width - first < kColumns ? width - first : kColumns);
  });
}

}  // namespace takt
