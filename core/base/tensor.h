// What a tensor looks like: an element type and a list of named axes with their extents, row-major.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>

#include "core/base/axis.h"
#include "core/base/inline_vector.h"

namespace takt {

enum class DType { kF32, kF64, kBF16, kI32, kU8 };

std::size_t num_bytes(DType dtype);
std::string_view name_of(DType dtype);
bool is_floating(DType dtype);
std::ostream& operator<<(std::ostream& out, DType dtype);

// One dimension: "batch", "embed", ... and how many elements it has.
struct Dim {
  Axis axis;
  std::int64_t extent = 0;
  bool operator==(const Dim&) const = default;
};
using Dims = InlineVector<Dim, kMaxRank>;

std::int64_t num_elements(const Dims& dims);
// The position of `axis` in `dims`, or -1.
int find_axis(const Dims& dims, const Axis& axis);
// "[batch=4, seq=256]"
std::string to_string(const Dims& dims);

struct TensorDesc {
  Dims dims;
  DType dtype = DType::kF32;

  std::int64_t num_elements() const { return takt::num_elements(dims); }
  std::size_t num_bytes() const { return static_cast<std::size_t>(num_elements()) * takt::num_bytes(dtype); }
  bool has(const Axis& axis) const { return find_axis(dims, axis) >= 0; }
  // Throws kBug if there is no such axis.
  std::int64_t extent(const Axis& axis) const;
  bool operator==(const TensorDesc&) const = default;
};
std::string to_string(const TensorDesc& desc);  // "f32[batch=4, seq=256]"
std::ostream& operator<<(std::ostream& out, const TensorDesc& desc);

}  // namespace takt
