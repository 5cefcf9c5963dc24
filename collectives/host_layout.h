// HostLayout: which ranks of a group share a host, and what of the group's reduction tree each host can do alone.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace takt {

// A node of the tree of reduce.h that lies wholly on one host while its parent does not.
struct HostNode {
  int host = 0;
  std::size_t index_on_host = 0;  // among the nodes of its host
  int first_rank = 0;
  int num_ranks = 0;
};

// Ranks are those of the group; hosts are numbered in the order of their lowest ranks.
class HostLayout {
 public:
  // host_of_rank: any numbers, equal for ranks of one host.
  explicit HostLayout(std::span<const int> host_of_rank);

  int num_ranks() const { return static_cast<int>(host_of_.size()); }
  int num_hosts() const { return static_cast<int>(ranks_.size()); }
  int host_of(int rank) const { return host_of_[static_cast<std::size_t>(rank)]; }
  int index_on_host(int rank) const { return index_on_host_[static_cast<std::size_t>(rank)]; }
  // In rank order.
  std::span<const int> ranks_on(int host) const { return ranks_[static_cast<std::size_t>(host)]; }

  // In rank order; together they cover every rank once. A host whose ranks are one block of the tree has one.
  std::span<const HostNode> nodes() const { return nodes_; }
  std::size_t num_nodes_on(int host) const { return num_nodes_[static_cast<std::size_t>(host)]; }

  // Who on `host` deals with what belongs to `rank`: the rank itself if it is there. Spreads the ranks
  // of another host evenly.
  int carrier(int rank, int host) const;

 private:
  void add_nodes(int first_rank, int num_ranks);

  std::vector<int> host_of_;
  std::vector<int> index_on_host_;
  std::vector<std::vector<int>> ranks_;
  std::vector<HostNode> nodes_;
  std::vector<std::size_t> num_nodes_;
};

}  // namespace takt
