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

// The first extent that `tensor` does not divide, or null.
const Dim* undivided(std::int64_t tensor, const std::vector<Dim>& extents) {
  for (const Dim& dim : extents)
    if (dim.extent % tensor != 0) return &dim;
  return nullptr;
}

// The layouts that fit, those nearest to the asked tensor size first: "tensor=4 data=6 | tensor=6 data=4".
std::string nearest_that_fit(std::int64_t asked_tensor, int num_ranks, const std::vector<Dim>& extents) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t tensor = 1; tensor <= num_ranks; ++tensor)
    if (num_ranks % tensor == 0 && !undivided(tensor, extents)) sizes.push_back(tensor);
  std::stable_sort(sizes.begin(), sizes.end(), [asked_tensor](std::int64_t a, std::int64_t b) {
    return std::abs(a - asked_tensor) < std::abs(b - asked_tensor);
  });
  sizes.resize(std::min(sizes.size(), kMostOffers));
  std::string text;
  for (const std::int64_t tensor : sizes)
    text += fmt::format("{}tensor={} data={}", text.empty() ? "" : " | ", tensor, num_ranks / tensor);
  return text;
}

// Groups of data ranks that share one copy of what mesh.shard says.
InlineVector<MeshAxis, kMaxMeshAxes> with_replicas(const MeshConfig& config, std::int64_t data,
                                                   const MeshAxis& tensor) {
  const std::int64_t group = config.shard == "none" || config.shard_group == 0 ? data : config.shard_group;
  TAKT_REQUIRE(data % group == 0, "mesh.shard_group: data=", data, " is not a multiple of ", group,
               "\n  use a divisor of ", data, ", or 0 for all data ranks");
  const MeshAxis shared{.name = "data", .size = static_cast<int>(group), .cut = 1};
  if (group == data) return {shared, tensor};
  return {{.name = "replica", .size = static_cast<int>(data / group), .cut = 1}, shared, tensor};
}

}  // namespace

Mesh resolve_mesh(const MeshConfig& config, int num_ranks, const std::vector<Dim>& extents) {
  TAKT_ASSERT(num_ranks >= 1, "mesh: the number of ranks is ", num_ranks);
  const std::int64_t tensor = config.is_auto ? 1 : config.tensor;
  const auto refuse = [&](const std::string& what) {
    fail(Fault::kConfig, "mesh: ", what,
         "\n  nearest that fit: ", nearest_that_fit(tensor, num_ranks, extents));
  };
  const std::string ranks = fmt::format("{} rank{}", num_ranks, num_ranks == 1 ? "" : "s");
  const std::int64_t data = config.is_auto || config.data == 0 ? num_ranks / tensor : config.data;
  if (!config.is_auto && config.data == 0 && num_ranks % tensor != 0)
    refuse(fmt::format("{0} cannot be split as tensor={1} ({2} is not a multiple of {1})", ranks, tensor,
                       num_ranks));
  if (data * tensor != num_ranks)
    refuse(
        fmt::format("{} cannot be split as data={} x tensor={} (= {})", ranks, data, tensor, data * tensor));
  if (const Dim* dim = undivided(tensor, extents))
    refuse(fmt::format("tensor={} does not divide the model's {} {}", tensor, dim->extent, dim->axis.str()));
  return {.axes = with_replicas(config, data, {.name = "tensor", .size = static_cast<int>(tensor)})};
}

}  // namespace takt
