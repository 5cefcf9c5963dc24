// An axis that is not full leaves the end of every row over it.
#include "core/exec/padding.h"

#include "core/passes/shard_ranges.h"

namespace takt {

std::vector<Padding> padding_of(const Value& value, std::byte* data, const Mesh& mesh,
                                std::span<const int> coordinates) {
  std::vector<Padding> padding;
  std::size_t rows = 1, rest = value.desc.num_bytes();
  for (std::size_t d = 0; d < value.desc.dims.size(); ++d) {
    const auto extent = static_cast<std::size_t>(value.desc.dims[d].extent);
    const std::size_t inner = rest / extent;
    const auto num_valid = static_cast<std::size_t>(range_of(value, d, mesh, coordinates).num_valid);
    if (num_valid < extent) padding.push_back({data, rows, rest, num_valid * inner});
    rows *= extent;
    rest = inner;
  }
  return padding;
}

}  // namespace takt
