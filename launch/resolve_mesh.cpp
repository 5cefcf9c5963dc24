// A layout fits if data x tensor is the number of ranks and tensor divides what of the model it must.
#include "launch/resolve_mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kMostOffers = 3;

// The first extent that `size` does not divide, or null.
const Dim* undivided(std::int64_t size, const std::vector<Dim>& extents) {
  for (const Dim& dim : extents)
    if (dim.extent % size != 0) return &dim;
  return nullptr;
}

// "context=2 x tensor=4" of a layout's axes but data; an axis of one rank only where it is tensor's.
std::string text_of_others(const MeshConfig& config) {
  std::string text;
  for (const LayoutAxis& axis : kLayoutAxes)
    if (axis.name != "data" && (config.*axis.size > 1 || axis.name == "tensor"))
      text += fmt::format("{}{}={}", text.empty() ? "" : " x ", axis.name, config.*axis.size);
  return text;
}

std::int64_t ranks_of_others(const MeshConfig& config) {
  std::int64_t ranks = 1;
  for (const LayoutAxis& axis : kLayoutAxes)
    if (axis.name != "data") ranks *= config.*axis.size;
  return ranks;
}

// The layouts that fit, those nearest to the asked tensor size first: "tensor=4 data=6 | tensor=6 data=4".
std::string nearest_that_fit(const MeshConfig& config, std::int64_t num_ranks,
                             const std::vector<Dim>& extents) {
  const std::int64_t beside = ranks_of_others(config) / config.tensor;
  std::vector<std::int64_t> sizes;
  for (std::int64_t tensor = 1; tensor * beside <= num_ranks; ++tensor)
    if (num_ranks % (tensor * beside) == 0 && !undivided(tensor, extents)) sizes.push_back(tensor);
  std::stable_sort(sizes.begin(), sizes.end(), [&](std::int64_t a, std::int64_t b) {
    return std::abs(a - config.tensor) < std::abs(b - config.tensor);
  });
  sizes.resize(std::min(sizes.size(), kMostOffers));
  std::string text;
  for (const std::int64_t tensor : sizes)
    text +=
        fmt::format("{}tensor={} data={}", text.empty() ? "" : " | ", tensor, num_ranks / tensor / beside);
  return text.empty() ? "none" : text;
}

// Groups of data ranks that share one copy of what mesh.shard says are replicas of each other.
Mesh mesh_of(const MeshConfig& config, std::int64_t data) {
  const std::int64_t group = config.shard == "none" || config.shard_group == 0 ? data : config.shard_group;
  TAKT_REQUIRE(data % group == 0, "mesh.shard_group: data=", data, " is not a multiple of ", group,
               "\n  use a divisor of ", data, ", or 0 for all data ranks");
  Mesh mesh;
  if (group < data)
    mesh.axes.push_back({.name = "replica", .size = static_cast<int>(data / group), .cut = 1});
  mesh.axes.push_back({.name = "data", .size = static_cast<int>(group), .cut = 1});
  for (const LayoutAxis& axis : kLayoutAxes)
    if (axis.name != "data" && (config.*axis.size > 1 || axis.name == "tensor"))
      mesh.axes.push_back({.name = axis.name, .size = static_cast<int>(config.*axis.size)});
  return mesh;
}

}  // namespace

Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const ExtentsToDivide& extents) {
  TAKT_ASSERT(num_ranks >= 1, "mesh: the number of ranks is ", num_ranks);
  const auto refuse = [&](const std::string& what) {
    fail(Fault::kConfig, "mesh: ", what,
         "\n  nearest that fit: ", nearest_that_fit(config, num_ranks, extents("tensor")));
  };
  const std::string ranks = fmt::format("{} rank{}", num_ranks, num_ranks == 1 ? "" : "s");
  const std::int64_t others = ranks_of_others(config);
  const bool takes_rest = config.is_auto || config.data == 0;
  if (takes_rest && num_ranks % others != 0)
    refuse(fmt::format("{} cannot be split as {} ({} is not a multiple of {})", ranks, text_of_others(config),
                       num_ranks, others));
  const std::int64_t data = takes_rest ? num_ranks / others : config.data;
  if (data * others != num_ranks)
    refuse(fmt::format("{} cannot be split as data={} x {} (= {})", ranks, data, text_of_others(config),
                       data * others));
  for (const LayoutAxis& axis : kLayoutAxes)
    if (axis.name != "data")
      if (const std::vector<Dim> divided = extents(axis.name);
          const Dim* dim = undivided(config.*axis.size, divided))
        refuse(fmt::format("{}={} does not divide the model's {} {}", axis.name, config.*axis.size,
                           dim->extent, dim->axis.str()));
  return mesh_of(config, data);
}

}  // namespace takt
