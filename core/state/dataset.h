// Dataset: numbered samples, written into the inputs of a program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/base/tensor.h"

namespace takt {

// One input of a batch in host memory, which Dataset::fill writes: one row a sample, without gaps.
struct NamedBuffer {
  std::string_view name;
  DType dtype = DType::kF32;
  std::span<std::byte> bytes;
};

// Where a batch is not full, this index fills it: its inputs are valid for every program, its losses mean
// nothing and are not counted. Each dataset says what it is.
inline constexpr std::int64_t kPaddingSample = -1;

class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual std::int64_t num_samples() const = 0;
  // Writes the samples' rows into the buffers, in order, without allocating. The caller chooses which inputs
  // it wants. Throws kConfig for an input that the dataset does not have in that type, kBug for a sample that
  // does not exist and for a buffer of another size than the samples' rows.
  virtual void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const = 0;
  // Of what the samples are made of, wherever it is stored: the same on any number of ranks, and another one
  // where an element changed. Finds accidents, not attackers.
  virtual std::uint64_t content_hash() const = 0;
};

}  // namespace takt
