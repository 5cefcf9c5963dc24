// Weights that other software wrote or reads: what it calls and how it shapes them.
#pragma once

#include <vector>

#include "core/graph/graph.h"
#include "core/state/checkpoint.h"

namespace takt {

// Names and shapes of the graph's parameters as other software knows them.
std::vector<ExportedTensor> exported_tensors(const Graph& graph);

}  // namespace takt
