// Normalized arrays have zero mean and a spread of one; the statistics have the same bits on any number of ranks.
#include "core/state/normalized_dataset.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <mutex>

#include "collectives/local.h"
#include "core/base/error.h"
#include "core/base/rng.h"

namespace takt {
namespace {

constexpr std::int64_t kRows = 101, kWidth = 6;

class NormalizedDatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = (std::filesystem::path(testing::TempDir()) / concat("normalized.", getpid(), ".npy")).string();
    const RandomStream random(3, "rows");
    for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
      const auto column = static_cast<double>(i % kWidth);
      // The last column never changes.
      rows_.push_back(
          i % kWidth == kWidth - 1
              ? 4.0f
              : static_cast<float>(100 * column + (1 + column) * static_cast<double>(random.normal(
                                                                     static_cast<std::uint64_t>(i)))));
    }
    const std::int64_t shape[] = {kRows, 2, kWidth / 2};
    write_npy(path_, DType::kF32, shape, std::as_bytes(std::span(rows_)));
  }
  void TearDown() override { std::filesystem::remove(path_); }

  ArrayDataset open(Communicator& comm) const {
    const ArrayDataset::Source source{"x", path_};
    return ArrayDataset::open({&source, 1}, comm);
  }
  Normalization measured(int num_ranks, Normalization::Spread spread) const {
    Normalization found;
    std::mutex mutex;
    run_ranks(num_ranks, [&](Communicator& comm) {
      const ArrayDataset arrays = open(comm);
      Normalization mine = Normalization::of(*arrays.find("x"), spread, comm);
      const std::lock_guard lock(mutex);
      if (!found.mean.empty()) {
        EXPECT_EQ(mine.mean, found.mean);
        EXPECT_EQ(mine.scale, found.scale);
      }
      found = std::move(mine);
    });
    return found;
  }

  std::string path_;
  std::vector<float> rows_;
};

TEST_F(NormalizedDatasetTest, EveryNumberOfRanksMeasuresTheSameBits) {
  for (const auto spread : {Normalization::Spread::kEach, Normalization::Spread::kAll}) {
    const Normalization one = measured(1, spread);
    for (const int ranks : {2, 3, 5}) {
      const Normalization other = measured(ranks, spread);
      EXPECT_EQ(other.mean, one.mean) << ranks;
      EXPECT_EQ(other.scale, one.scale) << ranks;
    }
  }
}

TEST_F(NormalizedDatasetTest, ColumnsHaveZeroMeanAndASpreadOfOne) {
  run_ranks(1, [&](Communicator& comm) {
    ArrayDataset arrays = open(comm);
    Normalization normalization = Normalization::of(*arrays.find("x"), Normalization::Spread::kEach, comm);
    EXPECT_EQ(normalization.scale.back(), 1.0f) << "a column that never changes";
    const NormalizedDataset dataset(std::move(arrays), {{"x", normalization}});
    std::vector<std::int64_t> samples(kRows);
    for (std::int64_t i = 0; i < kRows; ++i) samples[static_cast<std::size_t>(i)] = i;
    std::vector<float> found(rows_.size());
    const NamedBuffer buffer{"x", DType::kF32, std::as_writable_bytes(std::span(found))};
    dataset.fill(samples, {&buffer, 1});
    for (std::size_t column = 0; column < kWidth; ++column) {
      double sum = 0, squares = 0;
      for (std::size_t row = 0; row < kRows; ++row) {
        const auto x = static_cast<double>(found[row * kWidth + column]);
        sum += x;
        squares += x * x;
      }
      EXPECT_NEAR(sum / kRows, 0, 1e-5) << column;
      EXPECT_NEAR(squares / kRows, column + 1 == kWidth ? 0 : 1, 1e-5) << column;
    }
    normalization.undo(found);
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], rows_[i], 1e-4) << i;
  });
}

TEST_F(NormalizedDatasetTest, OneScaleForAllKeepsTheProportionsOfErrors) {
  const Normalization found = measured(1, Normalization::Spread::kAll);
  EXPECT_EQ(found.scale, std::vector<float>(kWidth, found.scale.front()));
}

TEST_F(NormalizedDatasetTest, APaddingSampleIsZeroAndRowsOfAnotherWidthAreRefused) {
  run_ranks(1, [&](Communicator& comm) {
    const Normalization normalization{std::vector<float>(kWidth, 5), std::vector<float>(kWidth, 2)};
    const NormalizedDataset dataset(open(comm), {{"x", normalization}});
    std::vector<float> row(kWidth, 9);
    const std::int64_t padding = kPaddingSample;
    const NamedBuffer buffer{"x", DType::kF32, std::as_writable_bytes(std::span(row))};
    dataset.fill({&padding, 1}, {&buffer, 1});
    EXPECT_EQ(row, std::vector<float>(kWidth, 0));
    EXPECT_THROW(NormalizedDataset(open(comm), {{"x", {{1, 2}, {1, 1}}}}), Error);
  });
}

}  // namespace
}  // namespace takt
