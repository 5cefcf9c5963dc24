// schedule: collectives beside computation. The last pass before the memory plan.
#pragma once

#include <cstddef>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"
#include "core/passes/memory_plan.h"

namespace takt {

// A program in its final order, and where its values lie: what the memory plan starts from.
struct Scheduled {
  Graph graph;
  Lifetimes lives;  // packed
};

// Every collective becomes a pair: the collective itself, on a stream that communicates, starts; `done` stands where its
// results may be read. Between them the collective may run at any time. It starts as early as its inputs are there, and
// is done as late as its first reader allows, as far as the memory for the program's temporary values grows by no more
// than `extra_bytes`; 0 takes what is free anyway. All ranks get the same order.
//
// A stream belongs to a set of mesh axes, as a communicator does: what goes over one communicator runs one after the
// other, in an order that all its ranks share; over different ones it need not wait. Streams are queues: starts keep the
// order in which they are needed, and are done in that order.
Scheduled scheduled(Graph graph, const Mesh& mesh, const RankDevice& device, std::size_t extra_bytes);

// The stream of collectives along these mesh axes: one bit an axis, so that it is the same in all programs.
int stream_of(const Mesh& mesh, const MeshAxisNames& mesh_axes);

}  // namespace takt
