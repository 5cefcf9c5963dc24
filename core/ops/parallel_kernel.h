// Kernels that are a loop over independent items.
#pragma once

#include <cstdint>

#include "core/graph/op.h"
#include "core/ops/parallel_for.h"

namespace takt {

// The kernel that calls item(k, i) for i in [0, num_items), see parallel_for. Rows, blocks, chunks: long enough
// for a call each.
template <class Item>
Kernel parallel_kernel(const KernelNode& node, std::int64_t num_items, const Item& item) {
  return [item, num_items, threads = node.num_threads](const KernelArgs& k) {
    parallel_for(threads, num_items, [&](std::int64_t i) { item(k, i); });
  };
}

}  // namespace takt
