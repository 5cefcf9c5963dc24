// What the emulated devices say about themselves: values of data sheets and of NVIDIA's programming guide.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/emulated/control.h"

namespace takt::emulated {

// All but the index of the device and its memory, which is settings().memory_bytes.
cudaDeviceProp properties_of(Model model);

// "0000:01:00.0" of the device.
struct PciAddress {
  int domain = 0;
  int bus = 0;
  int slot = 0;
};
PciAddress pci_address(int device);

}  // namespace takt::emulated
