// ShardMemory: where the elements of a shard lie, in host memory or on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "core/base/tensor.h"

namespace takt {

// Elements are numbered in the row-major local buffer, padding included. Both calls are done when they return.
struct ShardMemory {
  using Read = std::function<void(std::int64_t first_element, std::span<std::byte> to)>;
  using Write = std::function<void(std::int64_t first_element, std::span<const std::byte> from)>;

  Read read = {};             // copies elements out
  Write write = {};           // copies elements in
  std::byte* host = nullptr;  // the buffer itself, where the host can reach it: then nothing is copied twice

  explicit operator bool() const { return read && write; }
};

// A buffer in host memory, which is borrowed.
ShardMemory host_memory(void* buffer, DType dtype);

}  // namespace takt
