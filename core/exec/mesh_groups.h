// The communicators of one rank: one for every set of mesh axes that a node of the plan communicates along.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "collectives/communicator.h"
#include "core/passes/step_plan.h"

namespace takt {

// Owns what it splits from `world`.
class MeshGroups {
 public:
  MeshGroups() = default;  // of a plan for one rank
  // Every rank of `world`, one a place on the mesh, makes its own at the same time, for the same plan.
  MeshGroups(const StepPlan& plan, Communicator& world);

  // Throws kBug if no node of the plan communicates along these axes.
  Communicator& of(const MeshAxisNames& mesh_axes) const;
  // All of them, in an order that all ranks share.
  template <class Body>
  void for_each(const Body& body) const {
    for (const auto& [name, group] : groups_) body(*group);
  }

 private:
  std::map<std::string, std::unique_ptr<Communicator>> groups_;
};

}  // namespace takt
