// Sums are made block by block, of a number of blocks that does not depend on the ranks, and added in order: so every
// number of ranks finds the same statistics, and trains the same model.
#include "core/state/normalized_dataset.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

constexpr std::int64_t kBlocks = 64;

// Row `row` of the array as doubles.
void read_row(const ArrayDataset::Array& array, std::int64_t row, std::span<double> to) {
  const std::size_t element_bytes = num_bytes(array.file.dtype());
  const std::byte* from =
      array.file.elements().data() + static_cast<std::size_t>(row) * to.size() * element_bytes;
  for (std::size_t i = 0; i < to.size(); ++i, from += element_bytes) {
    if (array.file.dtype() == DType::kF64) {
      std::memcpy(&to[i], from, sizeof(double));
    } else {
      float single = 0;
      std::memcpy(&single, from, sizeof(float));
      to[i] = static_cast<double>(single);
    }
  }
}

// The sum over all rows of f(element, number), an entry an element.
std::vector<double> sum_rows(const ArrayDataset::Array& array, Communicator& comm,
                             const std::function<double(std::size_t element, double number)>& f) {
  const auto width = static_cast<std::size_t>(array.row_elements());
  const std::int64_t num_rows = array.file.shape()[0];
  std::vector<double> sums(static_cast<std::size_t>(kBlocks) * width), row(width);
  for (std::int64_t block = comm.rank(); block < kBlocks; block += comm.size()) {
    comm.note_progress({.doing = "measuring the data"});
    const std::span<double> sum = std::span(sums).subspan(static_cast<std::size_t>(block) * width, width);
    for (std::int64_t r = num_rows * block / kBlocks; r < num_rows * (block + 1) / kBlocks; ++r) {
      read_row(array, r, row);
      for (std::size_t i = 0; i < width; ++i) sum[i] += f(i, row[i]);
    }
  }
  comm.all_reduce(sums.data(), sums.size(), DType::kF64, ReduceOp::kSum, {"statistics of the data"});
  for (std::size_t i = width; i < sums.size(); ++i) sums[i % width] += sums[i];
  sums.resize(width);
  return sums;
}

float scale_of(double sum_of_squares, double num_numbers) {
  const double spread = std::sqrt(sum_of_squares / num_numbers);
  return spread > 0 && std::isfinite(spread) ? static_cast<float>(spread) : 1.0f;
}

}  // namespace

Normalization Normalization::of(const ArrayDataset::Array& array, Spread spread, Communicator& comm) {
  if (!is_floating(array.file.dtype()))
    fail(Fault::kData, array.file.path().string(), ": has elements of ", array.file.dtype(),
         ", wanted f32 or f64");
  const auto num_rows = static_cast<double>(array.file.shape()[0]);
  std::vector<double> means = sum_rows(array, comm, [](std::size_t, double x) { return x; });
  for (double& mean : means) mean /= num_rows;
  const std::vector<double> squares =
      sum_rows(array, comm, [&](std::size_t i, double x) { return (x - means[i]) * (x - means[i]); });
  Normalization found;
  found.mean.assign(means.begin(), means.end());
  double all = 0;
  for (const double square : squares) all += square;
  for (const double square : squares)
    found.scale.push_back(spread == Spread::kEach
                              ? scale_of(square, num_rows)
                              : scale_of(all, num_rows * static_cast<double>(squares.size())));
  return found;
}

void Normalization::apply(std::span<float> rows) const {
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] = (rows[i] - mean[i % mean.size()]) / scale[i % scale.size()];
}

void Normalization::undo(std::span<float> rows) const {
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] = rows[i] * scale[i % scale.size()] + mean[i % mean.size()];
}

NormalizedDataset::NormalizedDataset(ArrayDataset arrays,
                                     std::map<std::string, Normalization, std::less<>> normalizations)
    : arrays_(std::move(arrays)), normalizations_(std::move(normalizations)) {
  for (const ArrayDataset::Array& array : arrays_.arrays()) {
    const std::size_t width = normalization(array.name).mean.size();
    if (static_cast<std::int64_t>(width) != array.row_elements())
      fail(Fault::kData, array.file.path().string(), ": a row has ", array.row_elements(),
           " elements, wanted ", width);
  }
}

const Normalization& NormalizedDataset::normalization(std::string_view name) const {
  const auto found = normalizations_.find(name);
  TAKT_ASSERT(found != normalizations_.end(), "dataset: array '", name, "' has no normalization");
  return found->second;
}

void NormalizedDataset::fill(std::span<const std::int64_t> samples,
                             std::span<const NamedBuffer> buffers) const {
  arrays_.fill(samples, buffers);
  for (const NamedBuffer& buffer : buffers) {
    TAKT_REQUIRE(buffer.dtype == DType::kF32, "dataset: input '", buffer.name, "' wants ", buffer.dtype,
                 ", normalized arrays are f32");
    const Normalization& normalization = this->normalization(buffer.name);
    auto* row = reinterpret_cast<float*>(buffer.bytes.data());
    for (const std::int64_t sample : samples) {
      if (sample != kPaddingSample) normalization.apply({row, normalization.mean.size()});
      row += normalization.mean.size();
    }
  }
}

}  // namespace takt
