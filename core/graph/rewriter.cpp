// Bookkeeping of old and new values.
#include "core/graph/rewriter.h"

namespace takt {

Rewriter::Rewriter(const Graph& from, Outside outside) : from_(from), moved_(from.values().size()) {
  result_.reserve(from.values().size(), from.nodes().size());
  for (std::size_t v = 0; outside == Outside::kAll && v < moved_.size(); ++v)
    if (from.values()[v].role != Role::kIntermediate) at({static_cast<int>(v)});
}

ValueId Rewriter::at(ValueId old) {
  ValueId& now = moved_[static_cast<std::size_t>(old.index)];
  if (now.index < 0 && from_.value(old).role != Role::kIntermediate)
    now = result_.add_outside(from_.value(old));
  TAKT_ASSERT(now.index >= 0, "rewriting: '", from_.value(old).name, "' is not there yet");
  return now;
}

void Rewriter::redirect(ValueId old, ValueId now) {
  moved_[static_cast<std::size_t>(old.index)] = now;
}

void Rewriter::copy(const Node& node) {
  copy_as(node, node.outputs);
}

void Rewriter::copy_as(Node node, std::span<const ValueId> old_outputs) {
  for (ValueId& id : node.inputs) id = at(id);
  result_.append_placed(std::move(node));
  for (const ValueId id : old_outputs) redirect(id, result_.add_output(Value(from_.value(id))));
}

Graph Rewriter::finish() && {
  for (const ValueId id : from_.outputs()) result_.mark_output(at(id));
  return std::move(result_);
}

}  // namespace takt
