// Regions: boxes of row-major tensors, how they overlap and how they are copied.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace takt {

struct Region {
  std::vector<std::int64_t> offset;
  std::vector<std::int64_t> extent;
  bool operator==(const Region&) const = default;
};

// The number of elements of a shape; nullopt where an extent is negative or the product leaves 63 bits.
std::optional<std::int64_t> checked_volume(std::span<const std::int64_t> shape);
// The same for a shape that was checked before.
std::int64_t volume(std::span<const std::int64_t> shape);

// What two regions of one tensor share; nullopt where that is nothing. Both have the same rank.
std::optional<Region> intersection(const Region& a, const Region& b);
// True where the region lies in a tensor of that shape, with at least one element.
bool lies_within(const Region& region, std::span<const std::int64_t> shape);

// Where regions fail to tile a tensor: an element that several of them hold, or none.
struct TilingFlaw {
  std::vector<std::int64_t> element;
  bool has_overlap = false;
};
// Nullopt where every element of a tensor of that shape lies in exactly one region. Each region must lie
// within the tensor. Sorts, so that a tensor in thousands of regions is no matter.
std::optional<TilingFlaw> find_tiling_flaw(std::span<const Region> regions,
                                           std::span<const std::int64_t> shape);

// "[2, 3]"
std::string shape_text(std::span<const std::int64_t> shape);

// A box that is copied from one row-major buffer to another.
struct BoxCopy {
  std::vector<std::int64_t> extent;
  std::vector<std::int64_t> from_shape;
  std::vector<std::int64_t> from_offset;
  std::vector<std::int64_t> to_shape;
  std::vector<std::int64_t> to_offset;
};
// Calls visit(from, to, num_elements) for every run that is contiguous on both sides, in row-major order.
void for_each_run(const BoxCopy& copy,
                  const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& visit);

}  // namespace takt
