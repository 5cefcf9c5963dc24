// The two calls for memory that the host reaches: plain copies.
#include "core/state/shard_memory.h"

#include <cstring>

namespace takt {

ShardMemory host_memory(void* buffer, DType dtype) {
  auto* const bytes = static_cast<std::byte*>(buffer);
  const auto element_bytes = static_cast<std::int64_t>(num_bytes(dtype));
  return {.read =
              [=](std::int64_t first_element, std::span<std::byte> to) {
                std::memcpy(to.data(), bytes + first_element * element_bytes, to.size());
              },
          .write =
              [=](std::int64_t first_element, std::span<const std::byte> from) {
                std::memcpy(bytes + first_element * element_bytes, from.data(), from.size());
              },
          .host = bytes};
}

}  // namespace takt
