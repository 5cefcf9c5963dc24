// Rank numbers and coordinates on the mesh.
#include "core/mesh/mesh.h"

#include "core/base/error.h"

namespace takt {

int Mesh::num_ranks() const {
  int product = 1;
  for (const MeshAxis& axis : axes) product *= axis.size;
  return product;
}

int Mesh::find(std::string_view axis) const {
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i].name == axis) return static_cast<int>(i);
  return -1;
}

int Mesh::size_of(std::string_view axis) const {
  const int i = find(axis);
  return i < 0 ? 1 : axes[static_cast<std::size_t>(i)].size;
}

std::vector<int> Mesh::coordinates(int rank) const {
  TAKT_ASSERT(rank >= 0 && rank < num_ranks(), "rank ", rank, " is not on the mesh ", to_string(*this));
  std::vector<int> coordinates(axes.size());
  for (std::size_t i = axes.size(); i-- > 0;) {
    coordinates[i] = rank % axes[i].size;
    rank /= axes[i].size;
  }
  return coordinates;
}

std::vector<int> Mesh::group(int rank, int axis) const {
  const auto a = static_cast<std::size_t>(axis);
  int stride = 1;
  for (std::size_t i = a + 1; i < axes.size(); ++i) stride *= axes[i].size;
  const int first = rank - coordinates(rank)[a] * stride;
  std::vector<int> ranks;
  for (int i = 0; i < axes[a].size; ++i) ranks.push_back(first + i * stride);
  return ranks;
}

std::string to_string(const Mesh& mesh) {
  std::string text;
  for (const MeshAxis& axis : mesh.axes)
    text += (text.empty() ? "" : " ") + axis.name + "=" + std::to_string(axis.size);
  return text.empty() ? "one rank" : text;
}

}  // namespace takt
