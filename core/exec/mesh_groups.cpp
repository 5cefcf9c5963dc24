// A group is all ranks that differ along its mesh axes only; its first rank names it.
#include "core/exec/mesh_groups.h"

#include "core/base/error.h"

namespace takt {

MeshGroups::MeshGroups(const StepPlan& plan, Communicator& world) {
  TAKT_ASSERT(plan.mesh.num_ranks() == world.size(), "mesh ", to_string(plan.mesh), " on ", world.size(),
              " ranks");
  for (const Program& program : plan.programs)
    for (const Node& node : program.graph.nodes()) {
      if (!node.op->needs_group) continue;
      const std::string name = to_string(node.mesh_axes);
      if (groups_.contains(name)) continue;
      const int first = plan.mesh.group(world.rank(), node.mesh_axes).front();
      groups_[name] = world.split(first, concat(name, "[", first, "]"));
    }
}

Communicator& MeshGroups::of(const MeshAxisNames& mesh_axes) const {
  const auto found = groups_.find(to_string(mesh_axes));
  TAKT_ASSERT(found != groups_.end(), "no communicator along ", to_string(mesh_axes));
  return *found->second;
}

}  // namespace takt
