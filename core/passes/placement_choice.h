// PlacementChoice: how a node's inputs and outputs are to lie, decided mesh axis by mesh axis, and what no choice may do.
#pragma once

#include <vector>

#include "core/graph/op.h"
#include "core/mesh/mesh.h"
#include "core/mesh/placement.h"

namespace takt {

struct PlacementChoice {
  std::vector<Placement> inputs, outputs;
};

// Into how many pieces do the mesh axes up to `last` cut the tensor axis that `last` cuts?
std::int64_t num_pieces(const Placement& placement, std::size_t last, const Mesh& mesh);
// Where an axis is split or merged (reshape), the pieces before and after match only if nothing is padded.
bool pieces_match(const OpArgs& args, const PlacementChoice& choice, std::size_t last, const Mesh& mesh);
// Where an op takes two tensor axes in step (query heads and the key heads they share), a mesh axis may cut one of them
// alone only inside the pieces of those that cut both.
bool cuts_nest(const PlacementChoice& choice, std::size_t last, const Mesh& mesh);

}  // namespace takt
