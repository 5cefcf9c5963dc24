// Graphs: what was captured, and its launches.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/emulated/capture.h"

namespace takt::emulated {

cudaGraph_t make_graph(GraphBody body);

}  // namespace takt::emulated
