// The mesh: ranks arranged along named axes, such as data=4 x tensor=2.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace takt {

struct MeshAxis {
  std::string name;  // "data", "tensor"
  int size = 1;
  bool operator==(const MeshAxis&) const = default;
};

// Ranks are numbered row-major over `axes`: the last axis varies fastest, so its ranks are neighbours.
struct Mesh {
  std::vector<MeshAxis> axes;

  int num_ranks() const;
  // The size of a mesh axis; 1 if the mesh has no such axis.
  int size_of(std::string_view axis) const;
  // Position of an axis in `axes`, or -1.
  int find(std::string_view axis) const;
  // One coordinate an axis.
  std::vector<int> coordinates(int rank) const;
  // All ranks that differ from `rank` only along axis number `axis`, in order of that coordinate.
  std::vector<int> group(int rank, int axis) const;
  bool operator==(const Mesh&) const = default;
};
std::string to_string(const Mesh& mesh);  // "data=4 tensor=2"

}  // namespace takt
