// parallelize: spreads a global graph over the mesh.
#pragma once

#include <utility>

#include "core/graph/graph.h"
#include "core/graph/look_alikes.h"
#include "core/mesh/mesh.h"
#include "core/passes/persistent_table.h"
#include "core/passes/sharding_rules.h"

namespace takt {

// A program before it meets a mesh, with what is asked of it for every mesh: found once.
struct GlobalProgram {
  explicit GlobalProgram(Graph program = {}) : graph(std::move(program)), alike(graph), readers(graph) {}

  Graph graph;
  LookAlikes alike;
  Users readers;
};

// Gives every value of `global` a placement and returns the graph that each rank runs: local shapes, and a conversion
// node wherever a value lies otherwise than an op needs it. The result is the same for every rank.
//
// Values in `known` lie where other programs of the step put them; other inputs, parameters and state are placed by
// rule, copies of parameters like them, accumulators and constants where their first use wants them. Outputs come out whole, but for the batch
// axis. Throws kConfig naming op and axes if an op cannot be placed.
Graph parallelize(const Graph& global, const Mesh& mesh, const ShardingRules& rules,
                  const PersistentTable& known);
Graph parallelize(const GlobalProgram& global, const Mesh& mesh, const ShardingRules& rules,
                  const PersistentTable& known);

}  // namespace takt
