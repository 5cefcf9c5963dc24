// NormalizedDataset: arrays as a model likes them, of zero mean and a spread of one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "core/state/array_dataset.h"

namespace takt {

// x' = (x - mean) / scale, an entry an element of a row. It is part of a model: what was trained with it predicts with it.
struct Normalization {
  enum class Spread {
    kEach,  // every element has its own scale
    kAll    // all elements have one, so that squares of errors keep their proportions
  };
  std::vector<float> mean, scale;

  // Of all rows. An element that never changes has scale 1. The same bits on any number of ranks, each of which reads a
  // slice; every rank calls it.
  static Normalization of(const ArrayDataset::Array& array, Spread spread, Communicator& comm);

  void apply(std::span<float> rows) const;
  void undo(std::span<float> rows) const;
};

// Hands out f32 rows only. A padding sample is all zeros.
class NormalizedDataset final : public Dataset {
 public:
  // One for every array of `arrays`, by name.
  NormalizedDataset(ArrayDataset arrays, std::map<std::string, Normalization, std::less<>> normalizations);

  const ArrayDataset& arrays() const { return arrays_; }
  const Normalization& normalization(std::string_view name) const;  // kBug if there is none

  std::int64_t num_samples() const override { return arrays_.num_samples(); }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override;
  // Of the arrays: their statistics follow.
  std::uint64_t content_hash() const override { return arrays_.content_hash(); }

 private:
  ArrayDataset arrays_;
  std::map<std::string, Normalization, std::less<>> normalizations_;
};

}  // namespace takt
