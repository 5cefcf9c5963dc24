// Walks the reduction tree from its root and stops where a subtree lies on one host. With blocks of 2^k
// consecutive ranks a host that is one node; with 6 a host two; with ranks dealt out in turn every rank is
// its own: the sum has the same bits in all cases, only more of it travels.
#include "collectives/host_layout.h"

#include <algorithm>

#include "collectives/reduce.h"
#include "core/base/error.h"

namespace takt {

HostLayout::HostLayout(std::span<const int> host_of_rank) {
  std::vector<int> seen;
  for (const int given : host_of_rank) {
    const auto found = std::find(seen.begin(), seen.end(), given);
    const auto host = static_cast<std::size_t>(found - seen.begin());
    if (found == seen.end()) {
      seen.push_back(given);
      ranks_.emplace_back();
    }
    const int rank = num_ranks();
    host_of_.push_back(static_cast<int>(host));
    index_on_host_.push_back(static_cast<int>(ranks_[host].size()));
    ranks_[host].push_back(rank);
  }
  num_nodes_.resize(ranks_.size());
  TAKT_ASSERT(num_ranks() > 0, "a group without ranks");
  add_nodes(0, num_ranks());
}

void HostLayout::add_nodes(int first_rank, int num_ranks) {
  const auto begin = host_of_.begin() + first_rank;
  const int host = *begin;
  if (std::all_of(begin, begin + num_ranks, [host](int other) { return other == host; })) {
    nodes_.push_back({host, num_nodes_[static_cast<std::size_t>(host)]++, first_rank, num_ranks});
    return;
  }
  const auto num_left = static_cast<int>(ranks_on_the_left(static_cast<std::size_t>(num_ranks)));
  add_nodes(first_rank, num_left);
  add_nodes(first_rank + num_left, num_ranks - num_left);
}

int HostLayout::carrier(int rank, int host) const {
  if (host_of(rank) == host) return rank;
  const std::span<const int> there = ranks_on(host);
  return there[static_cast<std::size_t>(index_on_host(rank)) % there.size()];
}

}  // namespace takt
