// bucket: joins the all-reduces of many gradients into few.
#pragma once

#include <cstddef>

#include "core/graph/graph.h"

namespace takt {

// The bucket size for a data-parallel degree: max(40 M, 1 M x degree) elements of four bytes.
// Source: Megatron-LM's distributed data parallel configuration.
std::size_t default_bucket_bytes(int num_ranks);

// Joins all-reduces of accumulators that go over the same mesh axis with the same operation, in their order,
// until a bucket holds `bucket_bytes`. The memory plan lays the members of a bucket side by side. A bucket
// stands where its first member stood: accumulators are complete when the update begins, also where it is joined to
// the last micro-batch, whose schedule then starts each bucket as soon as its last member is summed.
Graph bucket_all_reduces(Graph graph, std::size_t bucket_bytes);

}  // namespace takt
