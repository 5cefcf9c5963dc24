// Ranks of a host tell each other what they see of its GPUs; each then comes to the same choices for all of them.
#include "launch/device_choice.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "collectives/agree.h"
#include "collectives/share.h"
#include "core/base/error.h"
#include "core/device/host_topology.h"

namespace takt {
namespace {

using Json = nlohmann::json;

std::optional<std::string> visible_devices(const std::vector<std::string>& environment) {
  constexpr std::string_view kName = "CUDA_VISIBLE_DEVICES=";
  for (const std::string& entry : environment)
    if (entry.starts_with(kName)) return entry.substr(kName.size());
  return std::nullopt;
}

VisibleGpus visible_gpus(const CudaSupport& cuda, const std::vector<std::string>& environment, int rank) {
  VisibleGpus visible{.rank = rank, .filter = visible_devices(environment)};
  for (const GpuInfo& gpu : cuda.gpus) visible.uuids.push_back(gpu.uuid);
  return visible;
}

std::string to_text(const VisibleGpus& visible) {
  Json json = {{"rank", visible.rank}, {"uuids", visible.uuids}};
  if (visible.filter) json["filter"] = *visible.filter;
  return json.dump();
}

VisibleGpus from_text(const std::string& text) {
  const Json json = Json::parse(text);
  VisibleGpus visible{.rank = json.at("rank"), .uuids = json.at("uuids")};
  if (json.contains("filter")) visible.filter = json.at("filter");
  return visible;
}

// One text of every rank of `comm`, on every rank.
std::vector<std::string> all_texts(Communicator& comm, const std::string& text) {
  return Json::parse(share_text(comm, Json(gather_texts(comm, text)).dump()));
}

// Ranks whose GPUs are on one NUMA node share its processors in their order.
bool bind_beside(const GpuInfo& gpu, Communicator& on_host) {
  const HostTopology host = read_host_topology({gpu});
  const int numa_node = host.gpus.front().numa_node;
  const std::vector<std::string> nodes = all_texts(on_host, std::to_string(numa_node));
  const NumaNode* node = host.find_numa_node(numa_node);
  if (node == nullptr) return false;
  const auto me = nodes.begin() + on_host.rank();
  const auto sharer = static_cast<int>(std::count(nodes.begin(), me, *me));
  return bind_to_cpus(share_of_cpus(*node, sharer, static_cast<int>(std::ranges::count(nodes, *me))));
}

int domain_of(const GpuInfo& gpu, const RankPlace& place) {
  std::vector<GpuPlace> places;
  for (const std::string& text :
       all_texts(place.all, Json({std::to_string(place.host_number), gpu.fabric}).dump())) {
    const Json json = Json::parse(text);
    places.push_back({.host = json.at(0), .fabric = json.at(1)});
  }
  return fast_domains(places)[static_cast<std::size_t>(place.all.rank())];
}

}  // namespace

DeviceKind choose_backend(const std::string& wanted, const CudaSupport& cuda) {
  if (wanted == "auto") return cuda.problem.empty() ? DeviceKind::kCuda : DeviceKind::kCpu;
  if (wanted == "cpu") return DeviceKind::kCpu;
  TAKT_REQUIRE(cuda.problem.empty(), "device.backend = \"cuda\": ", cuda.problem);
  return DeviceKind::kCuda;
}

GpuChoice choose_gpu(const CudaSupport& cuda, const std::vector<std::string>& environment,
                     const RankPlace& place) {
  const std::unique_ptr<Communicator> on_host = place.all.split(place.host_number, "ranks of the host");
  const VisibleGpus visible = visible_gpus(cuda, environment, place.all.rank());
  std::vector<VisibleGpus> ranks;
  for (const std::string& text : all_texts(*on_host, to_text(visible))) ranks.push_back(from_text(text));
  const int ordinal = agree(place.all, [&] {
    check_filter(visible);
    return choose_gpus(ranks, place.host)[static_cast<std::size_t>(on_host->rank())];
  });
  GpuChoice choice{.gpu = cuda.gpus[static_cast<std::size_t>(ordinal)]};
  choice.is_bound = bind_beside(choice.gpu, *on_host);
  choice.domain = domain_of(choice.gpu, place);
  return choice;
}

}  // namespace takt
