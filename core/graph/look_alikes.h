// LookAlikes: layers repeat, and what holds for a node holds for all that look like it.
#pragma once

#include <vector>

#include "core/graph/graph.h"

namespace takt {

// Numbers the values and nodes of a graph, which is borrowed while this is made, by their looks. Values look alike if
// they have the same role, description, global dims and placement; nodes if they have the same op, attributes and mesh
// axes, and their inputs and outputs look alike.
class LookAlikes {
 public:
  explicit LookAlikes(const Graph& graph);

  int look_of(ValueId value) const { return values_[static_cast<std::size_t>(value.index)]; }
  int look_of(NodeId node) const { return nodes_[static_cast<std::size_t>(node.index)]; }
  // The first node of each look.
  const std::vector<NodeId>& first_nodes() const { return first_nodes_; }

 private:
  void number_values(const Graph& graph);
  void number_nodes(const Graph& graph);

  std::vector<int> values_, nodes_;
  std::vector<NodeId> first_nodes_;
};

}  // namespace takt
