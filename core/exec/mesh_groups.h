// The communicators of one rank, one a mesh axis.
#pragma once

#include <memory>
#include <vector>

#include "collectives/communicator.h"
#include "core/exec/cpu_executor.h"
#include "core/mesh/mesh.h"

namespace takt {

// Owns what it splits from `world`; every rank of `world`, one a place on the mesh, makes its own at the same
// time.
class OwnedMeshGroups {
 public:
  OwnedMeshGroups(const Mesh& mesh, Communicator& world);

  // Null along axes of one rank.
  MeshGroups groups() const;

 private:
  std::vector<std::unique_ptr<Communicator>> owned_;
};

}  // namespace takt
