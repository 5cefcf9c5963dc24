// sum_levels: level 0 are the accumulators themselves; the others are named after them.
#include "core/passes/sum_levels.h"

#include <algorithm>
#include <bit>

#include "core/ops/builders.h"

namespace takt {
namespace {

ValueId buffer_of(Graph& graph, const Value& accumulator, int level) {
  const std::string name = level == 0 ? accumulator.name : concat(accumulator.name, ".level", level);
  const std::optional<ValueId> known = graph.find_outside(name);
  return known ? *known : graph.persistent(name, accumulator.desc, Role::kAccumulator, accumulator.of);
}

}  // namespace

int num_levels(std::int64_t num_micro_batches) {
  return std::max(1, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(num_micro_batches - 1))));
}

int num_carries_after(std::int64_t micro_batch) {
  return std::countr_zero(static_cast<std::uint64_t>(micro_batch + 1));
}

Graph build_carry(const Graph& micro_batch, int level) {
  Graph graph;
  graph.set_tag({-1, Phase::kUpdate});
  for (const Value& value : micro_batch.values())
    if (value.role == Role::kAccumulator)
      carry(graph, buffer_of(graph, value, level + 1), buffer_of(graph, value, level),
            value.name + ".carried");
  return graph;
}

Graph build_collect(const Graph& micro_batch, int levels) {
  Graph graph;
  graph.set_tag({-1, Phase::kUpdate});
  for (const Value& value : micro_batch.values()) {
    if (value.role != Role::kAccumulator) continue;
    ValueId sum = buffer_of(graph, value, 0);
    for (int level = 1; level < levels; ++level)
      sum = accumulate(graph, sum, buffer_of(graph, value, level), concat(value.name, ".collected", level));
  }
  return graph;
}

}  // namespace takt
