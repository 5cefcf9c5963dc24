// The runtime's memory: cudaMalloc and its kin.
#include <cuda_runtime_api.h>

#include "tests/emulated/control.h"
#include "tests/emulated/counters.h"
#include "tests/emulated/device.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/memory.h"
#include "tests/emulated/stream.h"

using namespace takt::emulated;

namespace {

cudaError_t allocate_for_call(void** pointer, std::size_t num_bytes, Place place) {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (num_bytes == 0) return cudaSuccess;
  *pointer = allocate(num_bytes, current_device(), place);
  return *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t release_for_call(void* pointer, Place place, const char* call) {
  if (pointer == nullptr || release(pointer, place)) return cudaSuccess;
  diagnose(std::string(call) + ": not the start of a live block of this kind");
  return cudaErrorInvalidValue;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t num_bytes) {
  TAKT_EMULATED_BEGIN("cudaMalloc", CallKind::kUnsafeInCapture);
  return remember(allocate_for_call(pointer, num_bytes, Place::kDevice));
}

// Waits for the device, as the real one does.
cudaError_t cudaFree(void* pointer) {
  TAKT_EMULATED_BEGIN("cudaFree", CallKind::kUnsafeInCapture);
  if (pointer == nullptr) return cudaSuccess;
  if (const auto block = find_allocation(pointer)) wait_for_device(device(block->device));
  return remember(release_for_call(pointer, Place::kDevice, "cudaFree"));
}

cudaError_t cudaHostAlloc(void** pointer, size_t num_bytes, unsigned) {
  TAKT_EMULATED_BEGIN("cudaHostAlloc", CallKind::kUnsafeInCapture);
  return remember(allocate_for_call(pointer, num_bytes, Place::kPinned));
}

cudaError_t cudaMallocHost(void** pointer, size_t num_bytes) {
  TAKT_EMULATED_BEGIN("cudaMallocHost", CallKind::kUnsafeInCapture);
  return remember(allocate_for_call(pointer, num_bytes, Place::kPinned));
}

// Waits for nothing: that the real one often does is no promise.
cudaError_t cudaFreeHost(void* pointer) {
  TAKT_EMULATED_BEGIN("cudaFreeHost", CallKind::kUnsafeInCapture);
  return remember(release_for_call(pointer, Place::kPinned, "cudaFreeHost"));
}

// The memory is there at once, its use is ordered by the stream only.
cudaError_t cudaMallocAsync(void** pointer, size_t num_bytes, cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaMallocAsync");
  if (is_capturing(stream)) {
    diagnose("cudaMallocAsync: in a captured stream; the emulated device knows no memory nodes");
    return remember(cudaErrorStreamCaptureUnsupported);
  }
  return remember(allocate_for_call(pointer, num_bytes, Place::kDevice));
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  TAKT_EMULATED_BEGIN("cudaFreeAsync");
  if (is_capturing(stream)) {
    diagnose("cudaFreeAsync: in a captured stream; the emulated device knows no memory nodes");
    return remember(cudaErrorStreamCaptureUnsupported);
  }
  const Run free_it = [=] { return release_for_call(pointer, Place::kDevice, "cudaFreeAsync"); };
  return remember(enqueue(stream, {.name = "cudaFreeAsync", .run = free_it}));
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  TAKT_EMULATED_BEGIN("cudaMemGetInfo");
  *total_bytes = settings().memory_bytes;
  *free_bytes = *total_bytes - std::min(*total_bytes, device(current_device()).used_bytes.load());
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  TAKT_EMULATED_BEGIN("cudaPointerGetAttributes");
  *attributes = {};
  attributes->device = -1;
  attributes->type = cudaMemoryTypeUnregistered;
  const auto block = find_allocation(pointer);
  if (!block || block->freed) return cudaSuccess;
  attributes->type = block->place == Place::kDevice ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  attributes->device = block->device;
  attributes->devicePointer = const_cast<void*>(pointer);
  attributes->hostPointer = block->place == Place::kPinned ? const_cast<void*>(pointer) : nullptr;
  return cudaSuccess;
}

}  // extern "C"
