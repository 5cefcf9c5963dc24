// Boxes of row-major tensors. A copy is cut into the longest runs that are contiguous on both sides: trailing
// dimensions that are whole in both buffers belong to one run.
#include "core/state/region.h"

#include <algorithm>

namespace takt {
namespace {

std::int64_t linear_index(std::span<const std::int64_t> shape, std::span<const std::int64_t> offset,
                          std::span<const std::int64_t> index) {
  std::int64_t linear = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) linear = linear * shape[d] + offset[d] + index[d];
  return linear;
}

}  // namespace

std::optional<std::int64_t> checked_volume(std::span<const std::int64_t> shape) {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(product, extent, &product)) return std::nullopt;
  return product;
}

std::int64_t volume(std::span<const std::int64_t> shape) {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

std::optional<Region> intersection(const Region& a, const Region& b) {
  Region shared = a;
  for (std::size_t d = 0; d < a.offset.size(); ++d) {
    const std::int64_t begin = std::max(a.offset[d], b.offset[d]);
    const std::int64_t end = std::min(a.offset[d] + a.extent[d], b.offset[d] + b.extent[d]);
    if (begin >= end) return std::nullopt;
    shared.offset[d] = begin;
    shared.extent[d] = end - begin;
  }
  return shared;
}

bool lies_within(const Region& region, std::span<const std::int64_t> shape) {
  if (region.offset.size() != shape.size() || region.extent.size() != shape.size()) return false;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (region.offset[d] < 0 || region.extent[d] < 1) return false;
    if (region.extent[d] > shape[d] || region.offset[d] > shape[d] - region.extent[d]) return false;
  }
  return true;
}

void for_each_run(const BoxCopy& copy,
                  const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit) {
  if (volume(copy.extent) == 0) return;
  std::int64_t run = 1;
  std::size_t outer = copy.extent.size();  // dimensions before this one are walked, the rest is one run
  while (outer > 0) {
    --outer;
    run *= copy.extent[outer];
    if (copy.extent[outer] != copy.from_shape[outer] || copy.extent[outer] != copy.to_shape[outer]) break;
  }
  std::vector<std::int64_t> index(copy.extent.size(), 0);
  for (;;) {
    visit(linear_index(copy.from_shape, copy.from_offset, index),
          linear_index(copy.to_shape, copy.to_offset, index), run);
    std::size_t d = outer;
    while (d > 0 && ++index[d - 1] == copy.extent[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace takt
