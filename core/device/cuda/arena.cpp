// cudaMalloc, not a pool: the arena is the only allocation and lives as long as the run.
#include "core/device/cuda/arena.h"

#include <nccl.h>

#include "core/base/units.h"

namespace takt {
namespace {

// What the device has left; zeros where it does not say.
struct DeviceMemory {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
};

DeviceMemory device_memory() {
  DeviceMemory memory;
  TAKT_CUDA(cudaMemGetInfo(&memory.free_bytes, &memory.total_bytes));
  return memory;
}

[[noreturn]] void fail_memory(std::size_t num_bytes, const DeviceMemory& memory) {
  fail(Fault::kMemory, "cuda: the arena needs ", format_bytes(num_bytes), ", but ",
       format_bytes(memory.free_bytes), " of ", format_bytes(memory.total_bytes),
       " are free on this GPU\n  a smaller train.micro_batch needs less; or another process uses the GPU");
}

std::byte* allocate_plain(std::size_t num_bytes) {
  void* memory = nullptr;
  const cudaError_t code = cudaMalloc(&memory, num_bytes);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next launch would be blamed
    fail_memory(num_bytes, device_memory());
  }
  require_cuda(code, "cudaMalloc(memory)");
  return static_cast<std::byte*>(memory);
}

// NCCL says "unhandled cuda error" for a lack of memory as for all else, so the device is asked.
std::byte* allocate_registrable(std::size_t num_bytes) {
  void* memory = nullptr;
  const ncclResult_t result = ncclMemAlloc(&memory, num_bytes);
  if (result == ncclUnhandledCudaError) {
    const DeviceMemory left = device_memory();
    if (left.free_bytes < num_bytes) fail_memory(num_bytes, left);
  }
  require_nccl(result, "ncclMemAlloc(memory)");
  return static_cast<std::byte*>(memory);
}

}  // namespace

// Destructors have nobody to tell, so codes are ignored.
void free_device(std::byte* memory) noexcept {
  cudaFree(memory);
}

void free_nccl(std::byte* memory) noexcept {
  ncclMemFree(memory);
}

DeviceArena::DeviceArena(std::size_t num_bytes, ArenaKind kind, const CudaStream& stream)
    : num_bytes_(num_bytes) {
  if (num_bytes == 0) return;
  if (kind == ArenaKind::kPlain)
    plain_ = Owned<std::byte*, free_device>(allocate_plain(num_bytes));
  else
    registrable_ = Owned<std::byte*, free_nccl>(allocate_registrable(num_bytes));
  TAKT_CUDA(cudaMemsetAsync(data(), 0, num_bytes, stream.get()));
}

}  // namespace takt
