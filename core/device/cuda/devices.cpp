// Without a driver the count fails and stays as it was; what CUDA says then does not tell a missing driver from an old one.
#include "core/device/cuda/devices.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "core/device/cuda/error.h"
#include "core/device/cuda/nvml.h"

namespace takt {
namespace {

std::string version_text(int version) {  // 12040 is 12.4
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string problem_of(cudaError_t code) {
  if (code == cudaErrorNoDevice) return "the driver sees no GPU; `nvidia-smi -L` lists what there is";
  if (code != cudaErrorInsufficientDriver)
    return fmt::format("CUDA cannot start: {}", cudaGetErrorString(code));
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return "no NVIDIA driver is installed here";
  return fmt::format("the NVIDIA driver is for CUDA {}, but this build needs {}; update the driver",
                     version_text(driver), version_text(CUDART_VERSION));
}

std::string pci_bus_of(const cudaDeviceProp& properties) {
  return fmt::format("{:04x}:{:02x}:{:02x}.0", properties.pciDomainID, properties.pciBusID,
                     properties.pciDeviceID);
}

// As nvidia-smi writes it: GPU-8-4-4-4-12 hexadecimal digits.
std::string uuid_of(const cudaDeviceProp& properties) {
  std::string text = "GPU";
  for (std::size_t i = 0; i < sizeof(properties.uuid.bytes); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(properties.uuid.bytes[i]));
  }
  return text;
}

GpuInfo describe(int ordinal) {
  cudaDeviceProp properties = {};
  TAKT_CUDA(cudaGetDeviceProperties(&properties, ordinal));
  return {.ordinal = ordinal,
          .name = properties.name,
          .uuid = uuid_of(properties),
          .pci_bus = pci_bus_of(properties),
          .compute_capability = properties.major * 10 + properties.minor,
          .memory_bytes = properties.totalGlobalMem,
          .num_multiprocessors = properties.multiProcessorCount,
          .numa_node = properties.hostNumaId};
}

}  // namespace

CudaDevices list_cuda_devices() {
  int num_devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&num_devices);
  if (code != cudaSuccess) {
    cudaGetLastError();  // or the next launch would be blamed
    return {.problem = problem_of(code)};
  }
  CudaDevices devices;
  for (int ordinal = 0; ordinal < num_devices; ++ordinal) devices.gpus.push_back(describe(ordinal));
  if (devices.gpus.empty()) devices.problem = problem_of(cudaErrorNoDevice);
  add_nvlink(devices.gpus);
  return devices;
}

}  // namespace takt
