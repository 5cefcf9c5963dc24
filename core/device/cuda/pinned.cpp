// Pinning takes milliseconds, so buffers are made once a run.
#include "core/device/cuda/pinned.h"

namespace takt {

// A destructor has nobody to tell, so the code is ignored.
void free_pinned(std::byte* memory) noexcept {
  cudaFreeHost(memory);
}

PinnedBuffer::PinnedBuffer(std::size_t num_bytes) : num_bytes_(num_bytes) {
  if (num_bytes == 0) return;
  void* memory = nullptr;
  TAKT_CUDA(cudaHostAlloc(&memory, num_bytes, cudaHostAllocDefault));
  memory_ = Owned<std::byte*, free_pinned>(static_cast<std::byte*>(memory));
}

}  // namespace takt
