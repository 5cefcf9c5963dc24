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

// The layouts that fit, those nearest to the asked sizes first: "tensor=4 data=6 | tensor=6 data=4". Experts are shared
// otherwise only where they are shared at all; context stays as it is.
std::string nearest_that_fit(const MeshConfig& asked, std::int64_t num_ranks,
                             const ExtentsToDivide& extents) {
  const std::vector<Dim> of_tensor = extents("tensor"), of_experts = extents("expert");
  const bool shares_experts = asked.expert > 1 && !of_experts.empty();
  std::vector<MeshConfig> fitting;
  MeshConfig config = asked;
  for (config.tensor = 1; config.tensor <= num_ranks; ++config.tensor)
    for (config.expert = 1; config.expert <= (shares_experts ? num_ranks / config.tensor : 1);
         ++config.expert)
      if (num_ranks % ranks_of_others(config) == 0 && !undivided(config.tensor, of_tensor) &&
          !undivided(config.expert, of_experts))
        fitting.push_back(config);
  const auto distance = [&](const MeshConfig& c) {
    return std::abs(c.tensor - asked.tensor) + std::abs(c.expert - asked.expert);
  };
  std::stable_sort(fitting.begin(), fitting.end(),
                   [&](const MeshConfig& a, const MeshConfig& b) { return distance(a) < distance(b); });
  fitting.resize(std::min(fitting.size(), kMostOffers));
  std::string text;
  for (const MeshConfig& c : fitting)
    text +=
        fmt::format("{}tensor={}{} data={}", text.empty() ? "" : " | ", c.tensor,
                    c.expert == 1 ? "" : fmt::format(" expert={}", c.expert), num_ranks / ranks_of_others(c));
  return text.empty() ? "none" : text;
}

// Groups of data ranks that share one copy of what mesh.shard says are replicas of each other.
Mesh mesh_of(const MeshConfig& config, std::int64_t data) {
  TAKT_REQUIRE(
      config.shard != "none" || config.shard_group == 0, "mesh.shard_group: ", config.shard_group,
      " ranks share nothing with mesh.shard = \"none\"\n  set mesh.shard, or leave mesh.shard_group out");
  const std::int64_t group = config.shard_group == 0 ? data : config.shard_group;
  TAKT_REQUIRE(data % group == 0, "mesh.shard_group: data=", data, " is not a multiple of ", group,
               "\n  use a divisor of ", data, ", or 0 for all data ranks");
  Mesh mesh;
  if (group < data)
    mesh.axes.push_back({.name = "replica", .size = static_cast<int>(data / group), .cut = 1});
  mesh.axes.push_back({.name = "data", .size = static_cast<int>(group), .cut = 1});
  for (const LayoutAxis& axis : kLayoutAxes)
    if (axis.name != "data" && (config.*axis.size > 1 || axis.name == "tensor"))
      mesh.axes.push_back({.name = axis.name,
                           .size = static_cast<int>(config.*axis.size),
                           .cut = axis.name == "expert" ? 1 : 0});
  return mesh;
}

}  // namespace

Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const ExtentsToDivide& extents) {
  TAKT_ASSERT(num_ranks >= 1, "mesh: the number of ranks is ", num_ranks);
  const auto refuse = [&](const std::string& what) {
    fail(Fault::kConfig, "mesh: ", what,
         "\n  nearest that fit: ", nearest_that_fit(config, num_ranks, extents));
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
  if (config.expert > 1 && extents("expert").empty())
    refuse(fmt::format("expert={}, but the model has no experts to share", config.expert));
  for (const LayoutAxis& axis : kLayoutAxes)
    if (axis.name != "data")
      if (const std::vector<Dim> divided = extents(axis.name);
          const Dim* dim = undivided(config.*axis.size, divided))
        refuse(fmt::format("{}={} does not divide the model's {} {}", axis.name, config.*axis.size,
                           dim->extent, axis.name == "expert" ? "experts" : dim->axis.str()));
  return mesh_of(config, data);
}

}  // namespace takt
