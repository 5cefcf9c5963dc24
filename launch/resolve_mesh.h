// From mesh.layout to a mesh of the ranks that are there.
#pragma once

#include "core/mesh/mesh.h"
#include "core/models/model.h"
#include "launch/job.h"

namespace takt {

// The mesh axes are {data, tensor}, so the ranks of a tensor group are neighbours. "auto" is all ranks on
// data. Throws kConfig, with the nearest layouts that fit, if the ranks or the model's heads cannot be split as asked.
Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const ModelConfig& model);

}  // namespace takt
