// A group is all ranks that differ along one mesh axis only; its first rank names it.
#include "core/exec/mesh_groups.h"

#include "core/base/error.h"

namespace takt {

OwnedMeshGroups::OwnedMeshGroups(const Mesh& mesh, Communicator& world) {
  TAKT_ASSERT(mesh.num_ranks() == world.size(), "mesh ", to_string(mesh), " on ", world.size(), " ranks");
  for (std::size_t m = 0; m < mesh.axes.size(); ++m) {
    owned_.emplace_back();
    if (mesh.axes[m].size == 1) continue;
    const int first = mesh.group(world.rank(), static_cast<int>(m)).front();
    owned_.back() = world.split(first, concat(mesh.axes[m].name, "[", first, "]"));
  }
}

MeshGroups OwnedMeshGroups::groups() const {
  MeshGroups groups;
  for (const auto& group : owned_) groups.push_back(group.get());
  return groups;
}

}  // namespace takt
