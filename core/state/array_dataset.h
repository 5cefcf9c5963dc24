// ArrayDataset: named arrays with a row for every sample, as simulations write them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "core/state/dataset.h"
#include "core/state/npy.h"

namespace takt {

// Inputs are the arrays: row i of each belongs to sample i. An array of f64 is handed over as f64 or,
// rounded, as f32; f32 and i32 as they are. A padding sample is all zeros.
class ArrayDataset final : public Dataset {
 public:
  struct Source {
    std::string name;  // of the input
    std::string path;  // of the .npy file
  };

  // Every file is read once, for its hash. Throws kData for a file that is missing or malformed, without
  // rows, or with another number of rows than the first one; kConfig for a name that is given twice.
  static ArrayDataset open(std::span<const Source> sources);
  // The same where every rank opens the same files: each reads a slice, and all throw the same Error. Throws
  // kConfig too, if the ranks see files of other shapes. Every rank of `comm` calls it, outside of another agree().
  static ArrayDataset open(std::span<const Source> sources, Communicator& comm);

  struct Array {
    std::string name;
    NpyFile file;

    std::span<const std::int64_t> row_shape() const { return file.shape().subspan(1); }
    std::int64_t row_elements() const;
  };
  std::span<const Array> arrays() const { return arrays_; }
  // Null where there is none.
  const Array* find(std::string_view name) const;

  std::int64_t num_samples() const override { return num_samples_; }
  void fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const override;
  std::uint64_t content_hash() const override { return content_hash_; }

 private:
  void compute_hash(Communicator* comm);

  std::vector<Array> arrays_;
  std::int64_t num_samples_ = 0;
  std::uint64_t content_hash_ = 0;
};

}  // namespace takt
