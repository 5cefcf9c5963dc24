// A layout fits if data x expert x tensor is the number of ranks, and tensor and expert divide what of the model they must.
#include "launch/resolve_mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::size_t kMostOffers = 3;

// The first extent that the size of a mesh axis does not divide, or null.
const Dim* undivided(std::int64_t size, const std::vector<Dim>& extents) {
  for (const Dim& dim : extents)
    if (dim.extent % size != 0) return &dim;
  return nullptr;
}

// What of the ranks is not on data.
struct Shares {
  std::int64_t tensor, expert;
  std::int64_t product() const { return tensor * expert; }
};

// "expert=2 x tensor=4"; without an axis of one rank that is no part of the usual mesh.
std::string text_of(const Shares& shares) {
  return fmt::format("{}tensor={}", shares.expert == 1 ? "" : fmt::format("expert={} x ", shares.expert),
                     shares.tensor);
}

// The layouts that fit, those nearest to the asked sizes first: "tensor=4 data=6 | tensor=6 data=4".
std::string nearest_that_fit(const Shares& asked, int num_ranks, const std::vector<Dim>& extents,
                             const std::vector<Dim>& of_experts) {
  std::vector<Shares> fitting;
  for (std::int64_t tensor = 1; tensor <= num_ranks; ++tensor)
    for (std::int64_t expert = 1; expert <= (asked.expert == 1 ? 1 : num_ranks / tensor); ++expert)
      if (num_ranks % (tensor * expert) == 0 && !undivided(tensor, extents) &&
          (expert == 1 || (!of_experts.empty() && !undivided(expert, of_experts))))
        fitting.push_back({tensor, expert});
  const auto distance = [&](const Shares& shares) {
    return std::abs(shares.tensor - asked.tensor) + std::abs(shares.expert - asked.expert);
  };
  std::stable_sort(fitting.begin(), fitting.end(),
                   [&](const Shares& a, const Shares& b) { return distance(a) < distance(b); });
  if (fitting.size() > kMostOffers) fitting.resize(kMostOffers);
  std::string text;
  for (const Shares& shares : fitting)
    text += fmt::format("{}tensor={}{} data={}", text.empty() ? "" : " | ", shares.tensor,
                        shares.expert == 1 ? "" : fmt::format(" expert={}", shares.expert),
                        num_ranks / shares.product());
  return text;
}

// Groups of data ranks that share one copy of what mesh.shard says.
InlineVector<MeshAxis, kMaxMeshAxes> axes_of(const MeshConfig& config, std::int64_t data,
                                             const Shares& shares) {
  const std::int64_t group = config.shard == "none" || config.shard_group == 0 ? data : config.shard_group;
  TAKT_REQUIRE(data % group == 0, "mesh.shard_group: data=", data, " is not a multiple of ", group,
               "\n  use a divisor of ", data, ", or 0 for all data ranks");
  InlineVector<MeshAxis, kMaxMeshAxes> axes;
  if (group != data) axes.push_back({.name = "replica", .size = static_cast<int>(data / group), .cut = 1});
  axes.push_back({.name = "data", .size = static_cast<int>(group), .cut = 1});
  if (shares.expert > 1)
    axes.push_back({.name = "expert", .size = static_cast<int>(shares.expert), .cut = 1});
  axes.push_back({.name = "tensor", .size = static_cast<int>(shares.tensor)});
  return axes;
}

}  // namespace

Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const std::vector<Dim>& extents,
                  const std::vector<Dim>& of_experts) {
  TAKT_ASSERT(num_ranks >= 1, "mesh: the number of ranks is ", num_ranks);
  const Shares shares = config.is_auto ? Shares{1, 1} : Shares{config.tensor, config.expert};
  const auto refuse = [&](const std::string& what) {
    fail(Fault::kConfig, "mesh: ", what,
         "\n  nearest that fit: ", nearest_that_fit(shares, num_ranks, extents, of_experts));
  };
  const std::string ranks = fmt::format("{} rank{}", num_ranks, num_ranks == 1 ? "" : "s");
  const std::int64_t data = config.is_auto || config.data == 0 ? num_ranks / shares.product() : config.data;
  if (!config.is_auto && config.data == 0 && num_ranks % shares.product() != 0)
    refuse(fmt::format("{} cannot be split as {} ({} is not a multiple of {})", ranks, text_of(shares),
                       num_ranks, shares.product()));
  if (data * shares.product() != num_ranks)
    refuse(fmt::format("{} cannot be split as data={} x {} (= {})", ranks, data, text_of(shares),
                       data * shares.product()));
  if (const Dim* dim = undivided(shares.tensor, extents))
    refuse(fmt::format("tensor={} does not divide the model's {} {}", shares.tensor, dim->extent,
                       dim->axis.str()));
  if (shares.expert > 1 && of_experts.empty())
    refuse(fmt::format("expert={}, but the model has no experts to share", shares.expert));
  if (const Dim* dim = undivided(shares.expert, of_experts))
    refuse(fmt::format("expert={} does not divide the model's {} experts", shares.expert, dim->extent));
  return {.axes = axes_of(config, data, shares)};
}

}  // namespace takt
