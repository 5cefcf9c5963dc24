// Topology: the GPUs, processors and network cards of a host as plain data, and what follows from it. Touches no device.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace takt {

// How a GPU reaches the others: through the host's PCIe, through NVLink inside the host, or through an NVLink fabric that
// spans hosts (NVL72).
enum class GpuLink { kPcie, kNvlink, kFabric };
std::string_view name_of(GpuLink link);

struct GpuInfo {
  int ordinal = 0;                        // among the GPUs that the process sees
  std::string name = {};                  // "NVIDIA H100 80GB HBM3"
  std::string uuid = {};                  // of the physical GPU
  std::string pci_bus = {};               // "0000:1b:00.0"
  std::vector<std::string> bridges = {};  // PCI bus addresses from the processor down to the GPU
  int compute_capability = 0;             // 90, 100, 120
  std::uint64_t memory_bytes = 0;
  int num_multiprocessors = 0;
  int numa_node = -1;  // the closest that has processors; -1: the machine does not say
  GpuLink link = GpuLink::kPcie;
  std::string fabric = {};  // kFabric: names the NVLink domain, the same on all its hosts
};

struct NumaNode {
  int number = 0;
  std::vector<int> cpus = {};  // logical processors of the operating system; none: memory of a GPU
};

struct NicInfo {
  std::string name = {};  // "mlx5_0"
  std::string pci_bus = {};
  std::vector<std::string> bridges = {};  // as a GPU's
  int numa_node = -1;
};

struct HostTopology {
  std::vector<GpuInfo> gpus = {};
  std::vector<NumaNode> numa_nodes = {};
  std::vector<NicInfo> nics = {};

  const NumaNode* find_numa_node(int number) const;
};

// The machine description that fits: "gb200-nvl72", "h100-hgx", "rtx-pro-server", ...; nullopt: none, or mixed GPUs.
std::optional<std::string_view> machine_of(const HostTopology& host);

// The network cards that are nearest to the GPU: behind the same PCI switch if there are any, else on its NUMA node, else
// all.
std::vector<NicInfo> nearest_nics(const HostTopology& host, const GpuInfo& gpu);

// The processors for one of `num_sharers` ranks whose GPUs are on one NUMA node: consecutive ones, as many for each.
// Empty where there are fewer processors than sharers.
std::vector<int> share_of_cpus(const NumaNode& node, int sharer, int num_sharers);

// What one rank sees of its host's GPUs.
struct VisibleGpus {
  int rank = 0;                            // of the run
  std::vector<std::string> uuids = {};     // in the order of their ordinals
  std::optional<std::string> filter = {};  // CUDA_VISIBLE_DEVICES; nullopt: not set
};

// Throws kConfig unless the rank sees all GPUs that its filter names: the driver silently stops at the first that it does
// not know.
void check_filter(const VisibleGpus& visible);

// The ordinal of each rank's GPU, for all ranks of one host in their order. Ranks that see the same GPUs take them in
// turn; ranks to which the launcher has shown different ones start with the first each. Throws kConfig, with the fix, if
// two ranks would share a GPU or there are none.
std::vector<int> choose_gpus(std::span<const VisibleGpus> ranks, std::string_view host);

// Where a rank's GPU is.
struct GpuPlace {
  std::string host = {};
  std::string fabric = {};  // see GpuInfo
};

// The domain of each rank, numbered from 0 in the order of the ranks: ranks of one NVLink fabric, or of one host.
// Communication inside a domain is fast.
std::vector<int> fast_domains(std::span<const GpuPlace> ranks);

}  // namespace takt
