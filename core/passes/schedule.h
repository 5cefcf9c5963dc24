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

// What the temporary values of a program may take so that windows are longer.
struct WindowMemory {
  std::size_t extra_bytes = 0;   // more than the program needs without; 0: what is free anyway
  std::size_t taken_anyway = 0;  // by another program, which uses the same part of the arena at another time
};

// Every collective becomes a pair: the collective itself, on a stream that communicates, starts; `done` stands where its
// results may be read. Between them the collective may run at any time. It starts as early as its inputs are there, and
// is done as late as its first reader allows, as far as `memory` does. All ranks get the same order.
//
// A stream belongs to a set of mesh axes, as a communicator does: what goes over one communicator runs one after the
// other, in an order that all its ranks share; over different ones it need not wait. Streams are queues: starts keep the
// order in which they are needed, and are done in that order.
Scheduled scheduled(Graph graph, const Mesh& mesh, const RankDevice& device, const WindowMemory& memory);

// The stream of collectives along these mesh axes: one bit an axis, so that it is the same in all programs.
int stream_of(const Mesh& mesh, const MeshAxisNames& mesh_axes);

}  // namespace takt
