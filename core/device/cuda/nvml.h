// What only NVML knows: which GPUs are joined by NVLink, inside a host and in a fabric over hosts.
#pragma once

#include <span>

#include "core/device/topology.h"

namespace takt {

// Fills in `link` and `fabric` by the GPUs' PCI bus. NVML comes with the driver; where it cannot be loaded or does not
// know, GPUs stay as they are, which is PCIe.
void add_nvlink(std::span<GpuInfo> gpus);

}  // namespace takt
