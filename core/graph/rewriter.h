// Rewriter: a changed copy of a graph. Passes take its nodes over in order and leave out, replace or add what they are
// about.
#pragma once

#include <vector>

#include "core/graph/graph.h"

namespace takt {

class Rewriter {
 public:
  // Which inputs and persistent values the copy has: all, or those that are asked for.
  enum class Outside { kAll, kUsed };
  // `from` is borrowed.
  explicit Rewriter(const Graph& from, Outside outside = Outside::kAll);

  // Where an old value is now. Throws kBug if it is not there yet.
  ValueId at(ValueId old);
  // Readers of `old` that are copied from now on read `now`.
  void redirect(ValueId old, ValueId now);
  // Takes a node over, its inputs as they are now.
  void copy(const Node& node);
  // The same for a node that was changed, or put together from several: its outputs stand for `old_outputs`.
  void copy_as(Node node, std::span<const ValueId> old_outputs);

  // What is there so far, to append to.
  Graph& graph() { return result_; }
  // Marks the old graph's outputs and hands the new one over.
  Graph finish() &&;

 private:
  const Graph& from_;
  Graph result_;
  std::vector<ValueId> moved_;
};

}  // namespace takt
