// NVML is loaded when asked: it is part of the driver, not of the toolkit, so there may be neither header nor library to
// build against. The declarations below are its documented interface: nvmlDeviceGetHandleByPciBusId_v2,
// nvmlDeviceGetNvLinkState and nvmlDeviceGetGpuFabricInfo.
#include "core/device/cuda/nvml.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>

#include "core/base/owned.h"

namespace takt {
namespace {

constexpr int kSuccess = 0;
constexpr unsigned kMostLinks = 18;              // NVML_NVLINK_MAX_LINKS
constexpr unsigned char kFabricIsCompleted = 3;  // NVML_GPU_FABRIC_STATE_COMPLETED

using Device = struct NvmlDevice*;

struct FabricInfo {  // nvmlGpuFabricInfo_t
  std::array<unsigned char, 16> cluster = {};
  int status = 0;
  unsigned clique = 0;
  unsigned char state = 0;
};

void close_library(void* library) noexcept {
  dlclose(library);
}

class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (!library_ || !load(init_, "nvmlInit_v2") || !load(shutdown_, "nvmlShutdown") ||
        !load(find_, "nvmlDeviceGetHandleByPciBusId_v2"))
      return;
    is_started_ = init_() == kSuccess;
    load(link_state_, "nvmlDeviceGetNvLinkState");
    load(fabric_info_, "nvmlDeviceGetGpuFabricInfo");
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (is_started_) shutdown_();
  }

  // Null if NVML does not know it.
  Device find(const std::string& pci_bus) const {
    Device device = nullptr;
    if (!is_started_ || find_(pci_bus.c_str(), &device) != kSuccess) return nullptr;
    return device;
  }

  bool has_nvlink(Device device) const {
    for (unsigned link = 0; link_state_ != nullptr && link < kMostLinks; ++link) {
      int is_active = 0;
      if (link_state_(device, link, &is_active) == kSuccess && is_active != 0) return true;
    }
    return false;
  }

  // Cluster and clique; empty: in no fabric, or the fabric manager is not done.
  std::string fabric(Device device) const {
    FabricInfo info;
    if (fabric_info_ == nullptr || fabric_info_(device, &info) != kSuccess) return {};
    if (info.state != kFabricIsCompleted || info.status != kSuccess ||
        info.cluster == decltype(info.cluster){})
      return {};
    return fmt::format("{:02x}.{}", fmt::join(info.cluster, ""), info.clique);
  }

 private:
  template <class Function>
  bool load(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_.get(), name));
    return function != nullptr;
  }

  Owned<void*, close_library> library_;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*find_)(const char* pci_bus, Device* device) = nullptr;
  int (*link_state_)(Device device, unsigned link, int* is_active) = nullptr;
  int (*fabric_info_)(Device device, FabricInfo* info) = nullptr;
  bool is_started_ = false;
};

}  // namespace

void add_nvlink(std::span<GpuInfo> gpus) {
  if (gpus.empty()) return;
  const Nvml nvml;
  for (GpuInfo& gpu : gpus) {
    const Device device = nvml.find(gpu.pci_bus);
    if (device == nullptr) continue;
    gpu.fabric = nvml.fabric(device);
    if (!gpu.fabric.empty())
      gpu.link = GpuLink::kFabric;
    else if (nvml.has_nvlink(device))
      gpu.link = GpuLink::kNvlink;
  }
}

}  // namespace takt
