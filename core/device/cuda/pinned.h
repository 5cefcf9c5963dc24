// PinnedBuffer: host memory that stays where it is, so that copies to and from the GPU need not wait for the host.
#pragma once

#include <cstddef>
#include <span>

#include "core/base/owned.h"
#include "core/device/cuda/error.h"

namespace takt {

void free_pinned(std::byte* memory) noexcept;

class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  // Throws kMemory if the host has no such piece to pin.
  explicit PinnedBuffer(std::size_t num_bytes);

  std::span<std::byte> bytes() const { return {memory_.get(), num_bytes_}; }

 private:
  std::size_t num_bytes_ = 0;
  Owned<std::byte*, free_pinned> memory_;
};

}  // namespace takt
