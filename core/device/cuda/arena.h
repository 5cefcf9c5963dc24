// DeviceArena: the one piece of GPU memory in which a plan lays out all values.
#pragma once

#include <cstddef>

#include "core/base/owned.h"
#include "core/device/cuda/stream.h"

namespace takt {

enum class ArenaKind {
  kPlain,
  kRegistrable,  // by ncclMemAlloc: NCCL can register parts of it and let the switch or the NIC work on them in place
};

void free_device(std::byte* memory) noexcept;
void free_nccl(std::byte* memory) noexcept;

class DeviceArena {
 public:
  DeviceArena() = default;
  // On the current device; filled with zeros on `stream`. Aligned to 256 bytes at least. Throws kMemory, with what
  // there is, if it does not fit.
  DeviceArena(std::size_t num_bytes, ArenaKind kind, const CudaStream& stream);

  std::byte* data() const { return plain_ ? plain_.get() : registrable_.get(); }
  std::size_t num_bytes() const { return num_bytes_; }

 private:
  std::size_t num_bytes_ = 0;
  Owned<std::byte*, free_device> plain_;
  Owned<std::byte*, free_nccl> registrable_;
};

}  // namespace takt
