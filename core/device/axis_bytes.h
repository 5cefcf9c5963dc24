// A tensor seen as [outer, extent, inner] around one axis, inner in bytes: what is cut along the axis on any device.
#pragma once

#include <cstdint>

namespace takt {

struct AxisBytes {
  std::int64_t outer = 1, extent = 1, inner = 1;
  std::int64_t num_bytes() const { return outer * extent * inner; }
};

}  // namespace takt
