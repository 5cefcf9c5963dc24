// hwloc's plug-ins that talk to GPUs are left out: they start drivers, and CUDA is asked elsewhere.
#include "core/device/host_topology.h"

#include <hwloc.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/base/error.h"
#include "core/base/owned.h"

namespace takt {
namespace {

using Topology = Owned<hwloc_topology_t, hwloc_topology_destroy>;

Topology load_topology(const std::string& xml) {
  hwloc_topology_t handle = nullptr;
  TAKT_REQUIRE(hwloc_topology_init(&handle) == 0, "topology: hwloc cannot start");
  Topology topology(handle);
  for (const char* component : {"opencl", "cuda", "nvml", "rsmi", "levelzero", "gl"})
    hwloc_topology_set_components(handle, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, component);
  hwloc_topology_set_io_types_filter(handle, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  hwloc_topology_set_type_filter(handle, HWLOC_OBJ_BRIDGE, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (!xml.empty())
    TAKT_REQUIRE(hwloc_topology_set_xml(handle, xml.c_str()) == 0, "topology: cannot read ", xml);
  TAKT_REQUIRE(hwloc_topology_load(handle) == 0, "topology: hwloc cannot read ",
               xml.empty() ? "this machine" : xml);
  return topology;
}

std::vector<int> cpus_in(hwloc_const_cpuset_t set) {
  std::vector<int> cpus;
  for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu)) cpus.push_back(cpu);
  return cpus;
}

std::string bus_address(const hwloc_obj_attr_u::hwloc_pcidev_attr_s& pci) {
  std::array<char, 24> text = {};
  std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.%x", pci.domain, pci.bus, pci.dev, pci.func);
  return text.data();
}

// The host bridge is not a PCI device: everything of one root complex would share it.
std::vector<std::string> bridges_above(hwloc_obj_t device) {
  std::vector<std::string> bridges;
  for (hwloc_obj_t above = device->parent; above != nullptr && hwloc_obj_type_is_io(above->type) != 0;
       above = above->parent)
    if (above->type == HWLOC_OBJ_BRIDGE && above->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI)
      bridges.push_back(bus_address(above->attr->bridge.upstream.pci));
  std::ranges::reverse(bridges);
  return bridges;
}

// The first NUMA node that is local to the device and has processors.
int numa_node_of(hwloc_topology_t topology, hwloc_obj_t device) {
  const hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology, device);
  if (place == nullptr || place->nodeset == nullptr) return -1;
  const int num_nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
  if (num_nodes > 1 && place->type == HWLOC_OBJ_MACHINE) return -1;  // as far from each
  return hwloc_bitmap_first(place->nodeset);
}

std::vector<NumaNode> numa_nodes_of(hwloc_topology_t topology) {
  std::vector<NumaNode> nodes;
  hwloc_obj_t node = nullptr;
  while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr)
    nodes.push_back({static_cast<int>(node->os_index), cpus_in(node->cpuset)});
  return nodes;
}

// Cards that NCCL and MPI can use for data between hosts: InfiniBand and RoCE.
std::vector<NicInfo> nics_of(hwloc_topology_t topology) {
  std::vector<NicInfo> nics;
  hwloc_obj_t device = nullptr;
  while ((device = hwloc_get_next_osdev(topology, device)) != nullptr) {
    if (device->attr->osdev.type != HWLOC_OBJ_OSDEV_OPENFABRICS) continue;
    NicInfo nic{
        .name = device->name, .bridges = bridges_above(device), .numa_node = numa_node_of(topology, device)};
    if (device->parent != nullptr && device->parent->type == HWLOC_OBJ_PCI_DEVICE)
      nic.pci_bus = bus_address(device->parent->attr->pcidev);
    nics.push_back(std::move(nic));
  }
  return nics;
}

}  // namespace

HostTopology read_host_topology(std::vector<GpuInfo> gpus, const std::string& xml) {
  const Topology topology = load_topology(xml);
  for (GpuInfo& gpu : gpus) {
    const hwloc_obj_t device = hwloc_get_pcidev_by_busidstring(topology.get(), gpu.pci_bus.c_str());
    if (device == nullptr) continue;
    gpu.bridges = bridges_above(device);
    if (gpu.numa_node < 0) gpu.numa_node = numa_node_of(topology.get(), device);
  }
  return {
      .gpus = std::move(gpus), .numa_nodes = numa_nodes_of(topology.get()), .nics = nics_of(topology.get())};
}

bool bind_to_cpus(std::span<const int> cpus) {
  if (cpus.empty()) return false;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) < sysconf(_SC_NPROCESSORS_ONLN))
    return false;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0;
}

}  // namespace takt
