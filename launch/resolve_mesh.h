// From mesh.layout to a mesh of the ranks that are there.
#pragma once

#include <functional>
#include <vector>

#include "core/base/tensor.h"
#include "core/mesh/mesh.h"
#include "launch/job.h"

namespace takt {

// The extents of the model that a mesh axis must divide: see StepCompiler.
using ExtentsToDivide = std::function<std::vector<Dim>(const Axis& mesh_axis)>;

// The mesh has the axes of kLayoutAxes in their order, those with one rank left out but for data and tensor, and replica in
// front where a shard group is smaller than data. "auto" is all ranks on data. Throws kConfig, with the nearest layouts
// that fit, if the ranks or the model cannot be split as asked.
Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const ExtentsToDivide& extents);

}  // namespace takt
