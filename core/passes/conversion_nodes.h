// conversion_nodes: the nodes that take a value along a conversion path.
#pragma once

#include <vector>

#include "core/graph/graph.h"
#include "core/mesh/mesh.h"

namespace takt {

// One step of the path, but for what names the value: `node` has no name, tag, inputs and outputs yet.
struct ConversionNode {
  Node node;
  Placement after;
  TensorDesc desc;  // local, after the step
};

// From one placement of a global tensor to another, in order; empty if nothing is to be done. See conversion_path.
std::vector<ConversionNode> conversion_nodes(const Placement& from, const Placement& to,
                                             const TensorDesc& global, const Mesh& mesh);

}  // namespace takt
