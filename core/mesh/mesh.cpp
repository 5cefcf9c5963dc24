// Rank numbers and coordinates on the mesh.
#include "core/mesh/mesh.h"

#include <algorithm>

#include "core/base/error.h"

namespace takt {

int Mesh::num_ranks() const {
  int product = 1;
  for (const MeshAxis& axis : axes) product *= axis.size;
  return product;
}

int Mesh::find(const Axis& axis) const {
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i].name == axis) return static_cast<int>(i);
  return -1;
}

int Mesh::size_of(const Axis& axis) const {
  const int i = find(axis);
  return i < 0 ? 1 : axes[static_cast<std::size_t>(i)].size;
}

bool Mesh::cuts_inside(int inner, int outer) const {
  const int a = axes[static_cast<std::size_t>(inner)].cut, b = axes[static_cast<std::size_t>(outer)].cut;
  return a > b || (a == b && inner > outer);
}

bool Mesh::spreads_samples(const Axis& axis) {
  return axis == "replica" || axis == "data" || axis == "expert";
}

int Mesh::data_ranks() const {
  int product = 1;
  for (const MeshAxis& axis : axes) product *= spreads_samples(axis.name) ? axis.size : 1;
  return product;
}

int Mesh::data_rank(std::span<const int> coordinates) const {
  int rank = 0;
  for (std::size_t m = 0; m < axes.size(); ++m)
    if (spreads_samples(axes[m].name)) rank = rank * axes[m].size + coordinates[m];
  return rank;
}

std::vector<int> Mesh::cut_order() const {
  std::vector<int> order;
  for (std::size_t i = 0; i < axes.size(); ++i) order.push_back(static_cast<int>(i));
  std::sort(order.begin(), order.end(), [this](int a, int b) { return cuts_inside(b, a); });
  return order;
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

std::vector<int> Mesh::group(int rank, const MeshAxisNames& along) const {
  const std::vector<int> own = coordinates(rank);
  std::vector<int> ranks = {0};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const bool varies = std::find(along.begin(), along.end(), axes[i].name) != along.end();
    std::vector<int> extended;
    for (const int so_far : ranks)
      for (int c = varies ? 0 : own[i]; c < (varies ? axes[i].size : own[i] + 1); ++c)
        extended.push_back(so_far * axes[i].size + c);
    ranks = std::move(extended);
  }
  return ranks;
}

std::string to_string(const Mesh& mesh) {
  std::string text;
  for (const MeshAxis& axis : mesh.axes)
    text += (text.empty() ? "" : " ") + axis.name.str() + "=" + std::to_string(axis.size);
  return text.empty() ? "one rank" : text;
}

std::string to_string(const MeshAxisNames& mesh_axes) {
  std::string text;
  for (const Axis& axis : mesh_axes) text += (text.empty() ? "" : "+") + axis.str();
  return text;
}

}  // namespace takt
