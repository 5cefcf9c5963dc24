// The emulated devices: see device.h.
#include "tests/emulated/device.h"

#include <ctime>
#include <string>

#include "tests/emulated/capture.h"
#include "tests/emulated/control.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"
#include "tests/emulated/stream_queue.h"

namespace takt::emulated {
namespace {

Mutex devices_mutex;
std::atomic<Device*> devices[kMaxDevices];  // never freed: workers may outlive main

thread_local int this_threads_device = 0;
thread_local cudaError_t this_threads_last_error = cudaSuccess;

}  // namespace

Device& device(int index) {
  if (index < 0 || index >= kMaxDevices) forbidden("there is no device " + std::to_string(index));
  if (Device* found = devices[index].load()) return *found;
  const Lock lock(devices_mutex);
  if (devices[index].load() == nullptr) devices[index] = new Device(index);
  return *devices[index].load();
}

std::vector<Device*> used_devices() {
  std::vector<Device*> used;
  for (auto& slot : devices)
    if (Device* found = slot.load()) used.push_back(found);
  return used;
}

int current_device() {
  return this_threads_device;
}
void set_current_device(int index) {
  this_threads_device = index;
}

int num_devices() {
  return settings().num_devices;
}

cudaError_t broken(int index) {
  return cudaError_t(device(index).error.load());
}

void break_device(int index, cudaError_t error, std::string_view message) {
  diagnose(message);
  int none = cudaSuccess;
  device(index).error.compare_exchange_strong(none, error);  // the first fault is the one that is told
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) this_threads_last_error = error;
  return error;
}
cudaError_t last_error() {
  return this_threads_last_error;
}
void forget_last_error() {
  this_threads_last_error = cudaSuccess;
}

bool& in_host_function() {
  thread_local bool inside = false;
  return inside;
}

cudaError_t begin_call(const char* call, CallKind kind) {
  if (in_host_function()) {
    diagnose(std::string(call) + ": called in a host function of a stream, which must make no CUDA calls");
    return cudaErrorNotPermitted;
  }
  if (const auto fault = injected_fault(call)) return cudaError_t(*fault);
  if (const cudaError_t error = broken(this_threads_device); error != cudaSuccess) return error;
  if (kind == CallKind::kUnsafeInCapture) return refuse_in_capture(call);
  return cudaSuccess;
}

double now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return double(now.tv_sec) * 1e3 + double(now.tv_nsec) * 1e-6;
}

}  // namespace takt::emulated
