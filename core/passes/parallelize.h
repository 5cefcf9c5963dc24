// parallelize: spreads a global graph over the mesh.
#pragma once

#include <map>
#include <span>
#include <string>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"
#include "core/passes/sharding_rules.h"

namespace takt {

// Placements of the values that outlive a program, by name: shared by all programs of a step.
using PersistentPlacements = std::map<std::string, Placement>;

// Gives every value of `global` a placement and returns the graph that each rank runs: local shapes, and a
// conversion node wherever a value lies otherwise than an op needs it. The result is the same for every rank.
//
// Inputs, parameters and state are placed by rule. Accumulators take the placement of what is first
// accumulated into them; `persistents` carries that to the programs that follow. Outputs come out whole, but
// for the batch axis. Throws kConfig naming op and axes if an op cannot be placed.
Graph parallelize(const Graph& global, const Mesh& mesh, std::span<const ShardingRule> rules,
                  PersistentPlacements& persistents);

}  // namespace takt
