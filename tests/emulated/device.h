// The emulated devices: what each keeps, and what every call of the runtime asks first.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/emulated/sync.h"

namespace takt::emulated {

class Stream;

struct Device {
  explicit Device(int index_) : index(index_) {}

  const int index;
  std::atomic<int> error{cudaSuccess};  // sticky: what every call returns since a fault

  // Guards the queues of the device's streams; `changed` moves with each change of them.
  Mutex mutex;
  Generation changed;
  std::vector<Stream*> streams;
  int num_streams_made = 0;
  uint64_t num_host_waits = 0;
  int issuer = 0;     // the thread of the host that queued last
  int num_asked = 0;  // how often that has asked since whether something is done
  int num_naps = 0;   // how often in turn it was seen asleep since

  std::atomic<std::size_t> used_bytes{0};
};

inline constexpr int kMaxDevices = 512;

// The device with this index, which is made at its first use. Aborts when there is none.
Device& device(int index);

// The devices that have been used.
std::vector<Device*> used_devices();

// Makes `index` the device of the calling thread, without a check.
void set_current_device(int index);

// What the last failed call of this thread returned, until cudaGetLastError. Returns its argument.
cudaError_t remember(cudaError_t error);
cudaError_t last_error();
void forget_last_error();

// Where may the call be made from, and in which state of the device?
enum class CallKind {
  kAny,
  kUnsafeInCapture,  // may order or wait for what is being captured: refused while a capture forbids it
};

// Every call of the runtime begins with this: an injected fault, the sticky error, a forbidden place.
cudaError_t begin_call(const char* call, CallKind kind = CallKind::kAny);

// True on a thread that runs a host function of a stream, which must make no CUDA calls.
bool& in_host_function();

double now_ms();

}  // namespace takt::emulated

// Leaves the call of the runtime with an error if it must not go on.
#define TAKT_EMULATED_BEGIN(...)                                                                   \
  if (const cudaError_t refused = takt::emulated::begin_call(__VA_ARGS__); refused != cudaSuccess) \
  return takt::emulated::remember(refused)
