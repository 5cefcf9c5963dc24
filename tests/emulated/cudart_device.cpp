// The runtime's devices: which there are, what they are, which one the thread has chosen.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "tests/emulated/control.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/properties.h"
#include "tests/emulated/stream_queue.h"

namespace takt::emulated {
namespace {

constexpr int kKib = 1024;

// In which the models differ.
struct Sheet {
  const char* name;
  int major, minor;
  int num_multiprocessors;
  int l2_bytes;
  int shared_kib_per_multiprocessor;
  int threads_per_multiprocessor;
  int blocks_per_multiprocessor;
  int memory_bus_bits;
};

Sheet sheet_of(Model model) {
  switch (model) {
    case Model::kH100:
      return {"NVIDIA H100 80GB HBM3", 9, 0, 132, 50 * kKib * kKib, 228, 2048, 32, 5120};
    case Model::kB200:
      return {"NVIDIA B200", 10, 0, 148, 126 * kKib * kKib, 228, 2048, 32, 8192};
    case Model::kRtxPro6000:
      break;
  }
  return {"NVIDIA RTX PRO 6000 Blackwell Server Edition", 12, 0, 188, 128 * kKib * kKib, 100, 1536, 24, 512};
}

void set_limits(cudaDeviceProp& properties) {
  properties.warpSize = 32;
  properties.maxThreadsPerBlock = 1024;
  properties.maxThreadsDim[0] = properties.maxThreadsDim[1] = 1024;
  properties.maxThreadsDim[2] = 64;
  properties.maxGridSize[0] = 0x7fffffff;
  properties.maxGridSize[1] = properties.maxGridSize[2] = 65535;
  properties.regsPerBlock = properties.regsPerMultiprocessor = 65536;
  properties.sharedMemPerBlock = 48 * kKib;
  properties.reservedSharedMemPerBlock = kKib;
  properties.totalConstMem = 64 * kKib;
}

int attribute_of(const cudaDeviceProp& properties, cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return properties.maxThreadsPerBlock;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return int(properties.sharedMemPerBlock);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return int(properties.sharedMemPerBlockOptin);
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return int(properties.sharedMemPerMultiprocessor);
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return properties.maxThreadsPerMultiProcessor;
    case cudaDevAttrMultiProcessorCount:
      return properties.multiProcessorCount;
    case cudaDevAttrComputeCapabilityMajor:
      return properties.major;
    case cudaDevAttrComputeCapabilityMinor:
      return properties.minor;
    case cudaDevAttrL2CacheSize:
      return properties.l2CacheSize;
    case cudaDevAttrWarpSize:
      return properties.warpSize;
    case cudaDevAttrPciBusId:
      return properties.pciBusID;
    case cudaDevAttrPciDeviceId:
      return properties.pciDeviceID;
    case cudaDevAttrPciDomainId:
      return properties.pciDomainID;
    case cudaDevAttrMemoryPoolsSupported:
      return properties.memoryPoolsSupported;
    default:
      forbidden("cudaDeviceGetAttribute: the emulated device does not know attribute " +
                std::to_string(attribute));
  }
}

bool exists(int device_index) {
  return device_index >= 0 && device_index < num_devices();
}

}  // namespace

cudaDeviceProp properties_of(Model model) {
  const Sheet sheet = sheet_of(model);
  cudaDeviceProp properties{};
  std::snprintf(properties.name, sizeof(properties.name), "%s", sheet.name);
  properties.major = sheet.major;
  properties.minor = sheet.minor;
  properties.multiProcessorCount = sheet.num_multiprocessors;
  properties.l2CacheSize = sheet.l2_bytes;
  properties.sharedMemPerMultiprocessor = std::size_t(sheet.shared_kib_per_multiprocessor) * kKib;
  properties.sharedMemPerBlockOptin =
      properties.sharedMemPerMultiprocessor - kKib;  // the driver keeps 1 KiB a block
  properties.maxThreadsPerMultiProcessor = sheet.threads_per_multiprocessor;
  properties.maxBlocksPerMultiProcessor = sheet.blocks_per_multiprocessor;
  properties.memoryBusWidth = sheet.memory_bus_bits;
  set_limits(properties);
  properties.ECCEnabled = properties.unifiedAddressing = properties.concurrentKernels = 1;
  properties.canMapHostMemory = properties.streamPrioritiesSupported = properties.memoryPoolsSupported = 1;
  properties.cooperativeLaunch = properties.clusterLaunch = 1;
  properties.asyncEngineCount = 3;
  return properties;
}

PciAddress pci_address(int device) {
  return {.domain = device / 128, .bus = 1 + device % 128, .slot = 0};
}

}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

// No devices is an error, as it is with the real runtime.
cudaError_t cudaGetDeviceCount(int* count) {
  if (const auto fault = injected_fault("cudaGetDeviceCount")) return remember(cudaError_t(*fault));
  *count = num_devices();
  return remember(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device_index) {
  if (const auto fault = injected_fault("cudaSetDevice")) return remember(cudaError_t(*fault));
  if (!exists(device_index)) return remember(cudaErrorInvalidDevice);
  set_current_device(device_index);
  return remember(broken(device_index));
}

cudaError_t cudaGetDevice(int* device_index) {
  *device_index = current_device();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device_index) {
  if (const auto fault = injected_fault("cudaGetDeviceProperties")) return remember(cudaError_t(*fault));
  if (!exists(device_index)) return remember(cudaErrorInvalidDevice);
  *properties = properties_of(settings().model);
  properties->totalGlobalMem = settings().memory_bytes;
  const PciAddress address = pci_address(device_index);
  properties->pciDomainID = address.domain;
  properties->pciBusID = address.bus;
  properties->pciDeviceID = address.slot;
  std::memcpy(properties->uuid.bytes, &device_index, sizeof(device_index));
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device_index) {
  cudaDeviceProp properties;
  const cudaError_t error = cudaGetDeviceProperties(&properties, device_index);
  if (error != cudaSuccess) return error;
  *value = attribute_of(properties, attribute);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int num_bytes, int device_index) {
  if (!exists(device_index)) return remember(cudaErrorInvalidDevice);
  const PciAddress address = pci_address(device_index);
  const int length = std::snprintf(text, std::size_t(num_bytes), "%04x:%02x:%02x.0", address.domain,
                                   address.bus, address.slot);
  return remember(length < num_bytes ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetByPCIBusId(int* device_index, const char* text) {
  char name[16];
  for (int i = 0; i < num_devices(); ++i) {
    cudaDeviceGetPCIBusId(name, sizeof(name), i);
    if (std::strcmp(name, text) != 0) continue;
    *device_index = i;
    return cudaSuccess;
  }
  return remember(cudaErrorInvalidDevice);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

// All devices of the process see each other.
cudaError_t cudaDeviceCanAccessPeer(int* can, int device_index, int peer) {
  if (!exists(device_index) || !exists(peer)) return remember(cudaErrorInvalidDevice);
  *can = device_index != peer;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  return remember(exists(peer) ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDeviceFlags(unsigned) {
  return cudaSuccess;
}

}  // extern "C"
