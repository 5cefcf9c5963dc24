// bundle: what a layer gathers or scatters goes in one message.
#pragma once

#include "core/graph/graph.h"

namespace takt {

// Joins, in a parallelized program, for each layer and phase: gathers of stored pieces (of parameters, and of what is
// derived from them) at the first of them, since all are there; and scatters of gradients into stored sums at the last, with
// the sums behind it. A message a layer costs one latency where each parameter's would cost its own.
Graph bundled_by_layer(Graph graph);

}  // namespace takt
