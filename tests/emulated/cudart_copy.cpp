// The runtime's copies, fills and host functions.
#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulated/allocations.h"
#include "tests/emulated/control.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/stream.h"

using namespace takt::emulated;

namespace {

bool is_device_memory(const void* pointer) {
  const auto block = find_allocation(pointer);
  return block && block->place == Place::kDevice;
}

// One side of a copy.
struct Side {
  const void* pointer = nullptr;
  bool on_device = false;
  bool pageable = false;
};

struct Copy {
  Side from;
  Side to;
  std::size_t num_bytes = 0;
};

// True when the side is what the kind of the copy says it is; else diagnosed.
bool check_side(Side& side, std::size_t num_bytes, const std::string& what) {
  const auto block = find_allocation(side.pointer);
  if (side.on_device && block && block->place == Place::kPinned) {
    diagnose(what + ": pinned host memory, but the kind of the copy says device");
    return false;
  }
  if (side.on_device || block) {
    if (!side.on_device && block->place == Place::kDevice) {
      diagnose(what + ": device memory, but the kind of the copy says host");
      return false;
    }
    return check_range(side.pointer, num_bytes, kAnyDevice, what);
  }
  side.pageable = true;
  return true;
}

bool check_copy(Copy& copy, cudaMemcpyKind kind, const std::string& call) {
  copy.from.on_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice ||
                        (kind == cudaMemcpyDefault && is_device_memory(copy.from.pointer));
  copy.to.on_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice ||
                      (kind == cudaMemcpyDefault && is_device_memory(copy.to.pointer));
  return check_side(copy.from, copy.num_bytes, call + ": source") &&
         check_side(copy.to, copy.num_bytes, call + ": destination");
}

Operation copy_operation(const Copy& copy) {
  const auto [from, to, num_bytes] = copy;
  void* destination = const_cast<void*>(to.pointer);
  const Run run = [source = from.pointer, destination, bytes = num_bytes] {
    std::memmove(destination, source, bytes);
    return cudaSuccess;
  };
  return {.name = "cudaMemcpyAsync",
          .run = run,
          .reads = {{from.pointer, num_bytes}},
          .writes = {{destination, num_bytes}}};
}

// A real copy from pageable memory reads it before the call returns, and one to it has written when the call returns.
cudaError_t copy_pageable(const Copy& copy, cudaStream_t stream) {
  if (!copy.from.pageable) {
    if (const cudaError_t error = enqueue(stream, copy_operation(copy)); error != cudaSuccess) return error;
    return cudaStreamSynchronize(stream);
  }
  const auto* bytes = static_cast<const char*>(copy.from.pointer);
  const auto staged = std::make_shared<std::vector<char>>(bytes, bytes + copy.num_bytes);
  void* destination = const_cast<void*>(copy.to.pointer);
  const Run run = [staged, destination] {
    std::memcpy(destination, staged->data(), staged->size());
    return cudaSuccess;
  };
  Operation operation{.name = "cudaMemcpyAsync", .run = run, .writes = {{destination, copy.num_bytes}}};
  return enqueue(stream, std::move(operation));
}

cudaError_t copy_async(void* to, const void* from, std::size_t num_bytes, cudaMemcpyKind kind,
                       cudaStream_t stream, bool pageable_is_right, const std::string& call) {
  stream_of(stream);
  if (num_bytes == 0) return cudaSuccess;
  Copy copy{{from}, {to}, num_bytes};
  if (!check_copy(copy, kind, call)) return cudaErrorInvalidValue;
  ++live_counters().num_copies;
  if (!copy.from.pageable && !copy.to.pageable) return enqueue(stream, copy_operation(copy));
  if (!pageable_is_right && settings().forbid_pageable_copies) {
    diagnose(call + ": pageable host memory, so that the copy is not asynchronous; use cudaMallocHost");
    return cudaErrorInvalidValue;
  }
  return copy_pageable(copy, stream);
}

// For calls without a stream, which wait themselves.
class OwnStream {
 public:
  OwnStream() { handle_.stream = Stream::make(device(current_device()), "synchronous call"); }
  ~OwnStream() { handle_.stream->close(); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  cudaStream_t get() { return &handle_; }

 private:
  CUstream_st handle_;
};

}  // namespace

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaMemcpyAsync");
  return remember(copy_async(to, from, num_bytes, kind, stream, false, "cudaMemcpyAsync"));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t num_bytes, cudaMemcpyKind kind) {
  TAKT_EMULATED_BEGIN("cudaMemcpy", CallKind::kUnsafeInCapture);
  OwnStream stream;
  const cudaError_t error = copy_async(to, from, num_bytes, kind, stream.get(), true, "cudaMemcpy");
  return remember(error != cudaSuccess ? error : cudaStreamSynchronize(stream.get()));
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t num_bytes, cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaMemcpyPeerAsync");
  return remember(
      copy_async(to, from, num_bytes, cudaMemcpyDeviceToDevice, stream, false, "cudaMemcpyPeerAsync"));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t num_bytes, cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaMemsetAsync");
  if (!check_range(to, num_bytes, kAnyDevice, "cudaMemsetAsync")) return remember(cudaErrorInvalidValue);
  if (num_bytes == 0) return cudaSuccess;
  ++live_counters().num_copies;
  const Run run = [=] {
    std::memset(to, value, num_bytes);
    return cudaSuccess;
  };
  return remember(enqueue(stream, {.name = "cudaMemsetAsync", .run = run, .writes = {{to, num_bytes}}}));
}

cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaMemset2DAsync");
  if (width == 0 || height == 0) return cudaSuccess;
  const size_t num_bytes = (height - 1) * pitch + width;  // from the first to the last
  if (width > pitch || !check_range(to, num_bytes, kAnyDevice, "cudaMemset2DAsync"))
    return remember(cudaErrorInvalidValue);
  ++live_counters().num_copies;
  Operation operation{.name = "cudaMemset2DAsync", .run = [=] {
                        for (size_t row = 0; row < height; ++row)
                          std::memset(static_cast<std::byte*>(to) + row * pitch, value, width);
                        return cudaSuccess;
                      }};
  for (size_t row = 0; row < height; ++row)
    operation.writes.push_back({static_cast<std::byte*>(to) + row * pitch, width});
  return remember(enqueue(stream, std::move(operation)));
}

cudaError_t cudaMemset(void* to, int value, size_t num_bytes) {
  TAKT_EMULATED_BEGIN("cudaMemset", CallKind::kUnsafeInCapture);
  OwnStream stream;
  const cudaError_t error = cudaMemsetAsync(to, value, num_bytes, stream.get());
  return remember(error != cudaSuccess ? error : cudaStreamSynchronize(stream.get()));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  TAKT_EMULATED_BEGIN("cudaLaunchHostFunc");
  const Run run = [=] {
    in_host_function() = true;
    function(argument);
    in_host_function() = false;
    return cudaSuccess;
  };
  return remember(enqueue(stream, {.name = "cudaLaunchHostFunc", .run = run, .instrumented = true}));
}

}  // extern "C"
