// Rows out of mapped arrays.
#include "core/state/array_dataset.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "collectives/agree.h"
#include "core/base/error.h"
#include "core/state/block_hash.h"
#include "core/state/region.h"

namespace takt {
namespace {

std::vector<ArrayDataset::Array> open_arrays(std::span<const ArrayDataset::Source> sources) {
  TAKT_REQUIRE(!sources.empty(), "dataset: no arrays are given, at least one is needed");
  std::vector<ArrayDataset::Array> arrays;
  for (const ArrayDataset::Source& source : sources) {
    for (const ArrayDataset::Array& other : arrays)
      TAKT_REQUIRE(other.name != source.name, "dataset: input '", source.name, "' is given twice");
    NpyFile file(source.path);
    if (file.shape().empty() || file.shape()[0] == 0)
      fail(Fault::kData, source.path, ": has no rows, wanted one for every sample");
    if (!arrays.empty() && file.shape()[0] != arrays.front().file.shape()[0])
      fail(Fault::kData, source.path, ": has ", file.shape()[0], " rows, but ",
           arrays.front().file.path().string(), " has ", arrays.front().file.shape()[0],
           "\n  row i of every array belongs to sample i");
    arrays.push_back({source.name, std::move(file)});
  }
  return arrays;
}

void copy_row(const ArrayDataset::Array& array, std::int64_t row, DType dtype, std::span<std::byte> to) {
  const std::int64_t num_elements = array.row_elements();
  const std::byte* from = array.file.elements().data() +
                          row * num_elements * static_cast<std::int64_t>(num_bytes(array.file.dtype()));
  if (dtype == array.file.dtype()) {
    std::copy_n(from, to.size(), to.data());
    return;
  }
  const auto* wide = reinterpret_cast<const double*>(from);
  std::transform(wide, wide + num_elements, reinterpret_cast<float*>(to.data()),
                 [](double x) { return static_cast<float>(x); });
}

}  // namespace

std::int64_t ArrayDataset::Array::row_elements() const {
  return volume(row_shape());
}

ArrayDataset ArrayDataset::open(std::span<const Source> sources) {
  ArrayDataset dataset;
  dataset.arrays_ = open_arrays(sources);
  dataset.compute_hash(nullptr);
  return dataset;
}

ArrayDataset ArrayDataset::open(std::span<const Source> sources, Communicator& comm) {
  ArrayDataset dataset;
  dataset.arrays_ = agree(comm, [&] { return open_arrays(sources); });
  dataset.compute_hash(&comm);
  return dataset;
}

void ArrayDataset::compute_hash(Communicator* comm) {
  num_samples_ = arrays_.front().file.shape()[0];
  std::string layout = "arrays:";
  std::vector<std::span<const std::byte>> blocks;
  for (const Array& array : arrays_) {
    layout += concat(" ", array.name, " ", array.file.dtype());
    for (const std::int64_t extent : array.file.shape()) layout += " " + std::to_string(extent);
    constexpr auto kBlockBytes = static_cast<std::size_t>(kHashBlockBytes);
    for (std::span<const std::byte> rest = array.file.elements(); !rest.empty();) {
      blocks.push_back(rest.first(std::min(kBlockBytes, rest.size())));
      rest = rest.subspan(blocks.back().size());
    }
  }
  const auto hash_block = [&](std::int64_t number) {
    const std::span<const std::byte> block = blocks[static_cast<std::size_t>(number)];
    return XXH3_64bits(block.data(), block.size());
  };
  content_hash_ = hash_blocks(layout, static_cast<std::int64_t>(blocks.size()), hash_block, comm);
}

const ArrayDataset::Array* ArrayDataset::find(std::string_view name) const {
  const auto found =
      std::find_if(arrays_.begin(), arrays_.end(), [&](const Array& array) { return array.name == name; });
  return found == arrays_.end() ? nullptr : &*found;
}

void ArrayDataset::fill(std::span<const std::int64_t> samples, std::span<const NamedBuffer> buffers) const {
  for (const NamedBuffer& buffer : buffers) {
    const Array* array = find(buffer.name);
    TAKT_REQUIRE(array != nullptr, "dataset: has no array '", buffer.name, "'");
    const DType stored = array->file.dtype();
    TAKT_REQUIRE(buffer.dtype == stored || (buffer.dtype == DType::kF32 && stored == DType::kF64),
                 array->file.path().string(), ": has elements of ", stored, ", input '", buffer.name,
                 "' wants ", buffer.dtype);
    const std::size_t row_bytes = static_cast<std::size_t>(array->row_elements()) * num_bytes(buffer.dtype);
    TAKT_ASSERT(buffer.bytes.size() == samples.size() * row_bytes, "input '", buffer.name,
                "': ", buffer.bytes.size(), " bytes for ", samples.size(), " samples of ", row_bytes,
                " bytes");
    std::span<std::byte> rest = buffer.bytes;
    for (const std::int64_t sample : samples) {
      TAKT_ASSERT(sample >= kPaddingSample && sample < num_samples_, "dataset: sample ", sample, " of ",
                  num_samples_);
      const std::span<std::byte> row = rest.first(row_bytes);
      if (sample == kPaddingSample)
        std::fill(row.begin(), row.end(), std::byte{0});
      else
        copy_row(*array, sample, buffer.dtype, row);
      rest = rest.subspan(row_bytes);
    }
  }
}

}  // namespace takt
