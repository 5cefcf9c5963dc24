// sum_levels: sums over micro-batches by a balanced binary tree, in buffers that count like the digits of a binary number.
#pragma once

#include <cstdint>
#include <string>

#include "core/graph/graph.h"

namespace takt {

// Micro-batches add to the buffers of level 0, two after each other. A buffer of level l > 0 holds the sum of 2^l or
// 2^(l + 1) micro-batches, or nothing. `carry` adds a level to the next one and clears it; at the end `collect` adds all
// levels to level 0, the lowest first. What comes out is the tree of collectives/reduce.h over the micro-batches: ranks that own
// 2^k neighbouring ones each hold a node of the tree over all of them.

// Buffers that so many micro-batches want, of every sum: log2 of their number, rounded up, and at least one.
int num_levels(std::int64_t num_micro_batches);
// Levels that are carried, from level 0 on, after micro-batch number `micro_batch`, which is not the last.
int num_carries_after(std::int64_t micro_batch);

// The program that carries the accumulators of `micro_batch`, a global program, from `level` to the next one.
Graph build_carry(const Graph& micro_batch, int level);
// The program that adds levels 1 to `levels` - 1 to level 0.
Graph build_collect(const Graph& micro_batch, int levels);

}  // namespace takt
