// From mesh.layout to a mesh of the ranks that are there.
#pragma once

#include <vector>

#include "core/base/tensor.h"
#include "core/mesh/mesh.h"
#include "launch/job.h"

namespace takt {

// The mesh axes are {data, tensor}, so the ranks of a tensor group are neighbours; {data, expert, tensor} where experts are
// shared; with a shard group that is smaller than data, replica before them. "auto" is all ranks on data. `extents` are
// those of the model that tensor must divide, `of_experts` those that expert must, see StepCompiler. Throws kConfig, with
// the nearest layouts that fit, if the ranks or the model cannot be split as asked.
Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const std::vector<Dim>& extents,
                  const std::vector<Dim>& of_experts = {});

}  // namespace takt
