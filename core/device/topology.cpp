// Decisions about places, from made-up or real topologies alike.
#include "core/device/topology.h"

#include <algorithm>
#include <array>
#include <map>

#include "core/base/error.h"

namespace takt {
namespace {

// How NVIDIA names the GPU of a machine, the longest first where one name begins another.
struct KnownMachine {
  std::string_view gpu_name;  // a part of it
  GpuLink link;               // at least
  std::string_view machine;
};
constexpr std::array kMachines = {
    KnownMachine{"GB300", GpuLink::kNvlink, "gb300-nvl72"},
    KnownMachine{"GB200", GpuLink::kNvlink, "gb200-nvl72"},
    KnownMachine{"B200", GpuLink::kNvlink, "b200-hgx"},
    KnownMachine{"H100", GpuLink::kNvlink, "h100-hgx"},
    KnownMachine{"A100", GpuLink::kNvlink, "a100-hgx"},
    KnownMachine{"RTX PRO", GpuLink::kPcie, "rtx-pro-server"},
};

std::optional<std::string_view> machine_of(const GpuInfo& gpu) {
  for (const KnownMachine& known : kMachines)
    if (gpu.name.find(known.gpu_name) != std::string::npos && gpu.link >= known.link) return known.machine;
  return std::nullopt;
}

std::size_t num_common_bridges(const GpuInfo& gpu, const NicInfo& nic) {
  const auto [end, _] = std::ranges::mismatch(gpu.bridges, nic.bridges);
  return static_cast<std::size_t>(end - gpu.bridges.begin());
}

// "0,1,9" names three. An empty text names none.
std::size_t num_named(std::string_view filter) {
  if (filter.empty()) return 0;
  return static_cast<std::size_t>(std::ranges::count(filter, ',')) + 1;
}

std::string filter_text(const VisibleGpus& visible) {
  return visible.filter ? concat(" (CUDA_VISIBLE_DEVICES=", *visible.filter, ")") : std::string();
}

constexpr std::string_view kOneRankAGpu =
    "\n  start one rank a GPU: mpirun --map-by ppr:N:node, or srun --ntasks-per-node=N with N GPUs a host";

int gpu_in_turn(const VisibleGpus& visible, int num_before, std::string_view host) {
  TAKT_REQUIRE(!visible.uuids.empty(), "device: rank ", visible.rank, " sees no GPU on ", host,
               filter_text(visible));
  TAKT_REQUIRE(num_before < static_cast<int>(visible.uuids.size()), "device: rank ", visible.rank,
               " is number ", num_before + 1, " of the ranks on ", host, " that see the same ",
               visible.uuids.size(), visible.uuids.size() == 1 ? " GPU" : " GPUs", filter_text(visible),
               kOneRankAGpu);
  return num_before;
}

}  // namespace

std::string_view name_of(GpuLink link) {
  switch (link) {
    case GpuLink::kPcie:
      return "PCIe";
    case GpuLink::kNvlink:
      return "NVLink";
    case GpuLink::kFabric:
      return "NVLink fabric";
  }
  fail(Fault::kBug, "gpu link ", static_cast<int>(link));
}

const NumaNode* HostTopology::find_numa_node(int number) const {
  const auto found = std::ranges::find(numa_nodes, number, &NumaNode::number);
  return found == numa_nodes.end() ? nullptr : &*found;
}

std::optional<std::string_view> machine_of(const HostTopology& host) {
  if (host.gpus.empty()) return std::nullopt;
  const auto machine = machine_of(host.gpus.front());
  for (const GpuInfo& gpu : host.gpus)
    if (machine_of(gpu) != machine) return std::nullopt;
  return machine;
}

// The root complex counts for nothing: what has only that in common is as far as the NUMA node says.
std::vector<NicInfo> nearest_nics(const HostTopology& host, const GpuInfo& gpu) {
  std::size_t most = 0;
  for (const NicInfo& nic : host.nics) most = std::max(most, num_common_bridges(gpu, nic));
  std::vector<NicInfo> nearest;
  for (const NicInfo& nic : host.nics)
    if (most > 0 ? num_common_bridges(gpu, nic) == most : nic.numa_node == gpu.numa_node)
      nearest.push_back(nic);
  return nearest.empty() ? host.nics : nearest;
}

std::vector<int> share_of_cpus(const NumaNode& node, int sharer, int num_sharers) {
  TAKT_ASSERT(sharer >= 0 && sharer < num_sharers, "topology: sharer ", sharer, " of ", num_sharers);
  const std::ptrdiff_t each = std::ssize(node.cpus) / num_sharers;
  const auto first = node.cpus.begin() + sharer * each;
  return {first, first + each};
}

void check_filter(const VisibleGpus& visible) {
  if (!visible.filter) return;
  const std::size_t named = num_named(*visible.filter);
  TAKT_REQUIRE(
      visible.uuids.size() >= named, "device: CUDA_VISIBLE_DEVICES=", *visible.filter, " names ", named,
      named == 1 ? " GPU" : " GPUs", ", but rank ", visible.rank, " sees ", visible.uuids.size(),
      "\n  the driver stops at the first that it does not know; `nvidia-smi -L` lists what is there");
}

std::vector<int> choose_gpus(std::span<const VisibleGpus> ranks, std::string_view host) {
  std::map<std::vector<std::string>, int> num_before;  // ranks so far, by what they see
  std::map<std::string, int> taken_by;                 // uuid -> rank
  std::vector<int> ordinals;
  for (const VisibleGpus& visible : ranks) {
    const int ordinal = gpu_in_turn(visible, num_before[visible.uuids]++, host);
    const std::string& uuid = visible.uuids[static_cast<std::size_t>(ordinal)];
    const auto [taken, is_free] = taken_by.emplace(uuid, visible.rank);
    TAKT_REQUIRE(is_free, "device: ranks ", taken->second, " and ", visible.rank, " on ", host,
                 " would share GPU ", uuid, filter_text(visible), kOneRankAGpu);
    ordinals.push_back(ordinal);
  }
  return ordinals;
}

std::vector<int> fast_domains(std::span<const GpuPlace> ranks) {
  std::map<std::pair<bool, std::string>, int> numbers;
  std::vector<int> domains;
  for (const GpuPlace& place : ranks) {
    const bool in_fabric = !place.fabric.empty();
    const auto next = static_cast<int>(numbers.size());
    domains.push_back(
        numbers.emplace(std::pair(in_fabric, in_fabric ? place.fabric : place.host), next).first->second);
  }
  return domains;
}

}  // namespace takt
