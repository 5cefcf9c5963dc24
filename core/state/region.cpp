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

struct Corner {
  std::vector<std::int64_t> at;
  int weight = 0;
};

// Adds the 2^rank corners of a box, with the signs that its mixed difference has there.
void add_corners(const Region& box, int weight, std::vector<Corner>& corners) {
  const std::size_t rank = box.offset.size();
  for (std::size_t ends = 0; ends < (std::size_t{1} << rank); ++ends) {
    Corner corner{box.offset, weight};
    for (std::size_t d = 0; d < rank; ++d)
      if ((ends >> d & 1) != 0) {
        corner.at[d] += box.extent[d];
        corner.weight = -corner.weight;
      }
    corners.push_back(std::move(corner));
  }
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

// How many regions hold an element is a function on the grid. It is 1 in the tensor and 0 outside if and only
// if its mixed difference is that of the tensor's own box, and the mixed difference of a box is +1 or -1 at
// its corners and 0 elsewhere. So the corners of all regions, with the tensor's taken away, must cancel. The
// first that is left, in lexicographic order, has no flaw before it, so that its sign tells holes from overlaps.
std::optional<TilingFlaw> find_tiling_flaw(std::span<const Region> regions,
                                           std::span<const std::int64_t> shape) {
  const Region whole{std::vector<std::int64_t>(shape.size(), 0), {shape.begin(), shape.end()}};
  std::vector<Corner> corners;
  corners.reserve((regions.size() + 1) << shape.size());
  if (volume(shape) > 0) add_corners(whole, -1, corners);
  for (const Region& region : regions) add_corners(region, 1, corners);
  std::sort(corners.begin(), corners.end(), [](const Corner& a, const Corner& b) { return a.at < b.at; });
  for (std::size_t i = 0; i < corners.size();) {
    std::int64_t sum = 0;
    const std::size_t begin = i;
    for (; i < corners.size() && corners[i].at == corners[begin].at; ++i) sum += corners[i].weight;
    if (sum != 0) return TilingFlaw{corners[begin].at, sum > 0};
  }
  return std::nullopt;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
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
