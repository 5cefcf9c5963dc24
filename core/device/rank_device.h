// RankDevice: on what a rank computes, as far as a plan must know it.
#pragma once

namespace takt {

enum class DeviceKind { kCpu, kCuda };

struct RankDevice {
  DeviceKind kind = DeviceKind::kCpu;
  int num_threads = 1;  // of the CPU, a rank

  RankDevice() = default;
  // So many threads of a CPU.
  RankDevice(int threads) : num_threads(threads) {}
  RankDevice(DeviceKind device, int threads) : kind(device), num_threads(threads) {}
};

}  // namespace takt
