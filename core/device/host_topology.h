// The processors and network cards of this host, as hwloc sees them, and binding a thread to processors.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/device/topology.h"

namespace takt {

// NUMA nodes and network cards, with `gpus`, which CUDA has listed, put in their places: bridges and, where CUDA did not
// know it, NUMA node. Throws kConfig if the machine does not tell.
// xml: a description that `lstopo machine.xml` wrote, instead of this host.
HostTopology read_host_topology(std::vector<GpuInfo> gpus = {}, const std::string& xml = {});

// Binds the calling thread, and those that it starts from then on, to these processors, unless the launcher has bound the
// process already. Returns whether it did; empty `cpus` bind nothing.
bool bind_to_cpus(std::span<const int> cpus);

}  // namespace takt
