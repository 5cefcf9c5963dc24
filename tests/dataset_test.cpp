// Datasets: samples lie in the buffers as asked for, and the hash is that of the content, on any number of ranks.
#include "core/state/dataset.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <limits>
#include <numeric>

#include "collectives/local.h"
#include "core/base/error.h"
#include "core/state/array_dataset.h"
#include "core/state/files.h"
#include "core/state/token_samples.h"

namespace takt {
namespace {

using std::filesystem::path;
using Tokens = std::vector<std::int32_t>;
using Paths = std::vector<std::string>;
using Indices = std::vector<std::int64_t>;

path fresh_directory() {
  const path directory = testing::TempDir() + "/takt-dataset-" + random_suffix();
  std::filesystem::create_directories(directory);
  return directory;
}

Tokens counted(std::int64_t num_tokens, std::int32_t vocab) {
  Tokens tokens(static_cast<std::size_t>(num_tokens));
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(i % static_cast<std::size_t>(vocab));
  return tokens;
}

template <class T>
NamedBuffer buffer_of(std::string_view name, DType dtype, std::vector<T>& elements) {
  return {name, dtype, std::as_writable_bytes(std::span(elements))};
}

Fault fault_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.fault();
  }
  ADD_FAILURE() << "nothing was thrown";
  return Fault::kStopped;
}

// The hash of `open(rank's communicator)` where all ranks agree on it.
std::uint64_t hash_on(int num_ranks, const std::function<std::uint64_t(Communicator&)>& open) {
  std::vector<std::uint64_t> hashes(static_cast<std::size_t>(num_ranks));
  run_ranks(num_ranks,
            [&](Communicator& world) { hashes[static_cast<std::size_t>(world.rank())] = open(world); });
  for (const std::uint64_t hash : hashes) EXPECT_EQ(hash, hashes[0]);
  return hashes[0];
}

TEST(TokenSamples, LieInTheBuffersInTheOrderAskedFor) {
  const Paths paths = {fresh_directory() / "a.bin"};
  write_llmc_bin(paths[0], counted(10, 100), 100);
  const TokenSamples dataset(TokenDataset::open(paths, 100), 3);
  ASSERT_EQ(dataset.num_samples(), 3);
  Tokens tokens(9), targets(9);
  const std::vector<NamedBuffer> buffers = {buffer_of("targets", DType::kI32, targets),
                                            buffer_of("tokens", DType::kI32, tokens)};
  dataset.fill(Indices{2, kPaddingSample, 0}, buffers);
  EXPECT_EQ(tokens, (Tokens{6, 7, 8, 0, 0, 0, 0, 1, 2}));
  EXPECT_EQ(targets, (Tokens{7, 8, 9, -1, -1, -1, 1, 2, 3}));
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1, 3}, buffers); }), Fault::kBug);
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1, -2}, buffers); }), Fault::kBug);
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1}, buffers); }), Fault::kBug);
  const std::vector<NamedBuffer> unknown = {buffer_of("labels", DType::kI32, tokens)};
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1, 2}, unknown); }), Fault::kConfig);
  EXPECT_EQ(fault_of([&] { TokenSamples(TokenDataset::open(paths, 100), 10); }), Fault::kData);
}

// More than two blocks of tokens, so that ranks have slices.
constexpr std::int64_t kManyTokens = 2'500'000;

TEST(TokenDataset, HasTheHashOfItsContentOnAnyNumberOfRanks) {
  const path folder = fresh_directory();
  const Tokens tokens = counted(kManyTokens, 1000);
  write_llmc_bin(folder / "a.bin", tokens, 1000);
  write_llmc_bin(folder / "wide.bin", tokens, 100'000);  // uint32
  write_megatron(folder / "m", tokens, 1000);
  const auto hash_of = [&](const Paths& names) {
    Paths paths;
    for (const std::string& name : names) paths.push_back(folder / name);
    return TokenDataset::open(paths, 1000).content_hash();
  };
  const std::uint64_t hash = hash_of({"a.bin"});
  EXPECT_EQ(hash, hash_of({"m"})) << "the same tokens in another layout";
  EXPECT_EQ(hash, hash_of({"wide.bin"})) << "the same tokens in another type";
  std::filesystem::rename(folder / "a.bin", folder / "moved.bin");
  const Paths moved = {folder / "moved.bin"};
  for (const int num_ranks : {1, 2, 3, 4})
    EXPECT_EQ(hash, hash_on(num_ranks, [&](Communicator& world) {
                return TokenDataset::open(moved, 1000, world).content_hash();
              }));
  for (const std::int64_t changed : {std::int64_t{0}, std::int64_t{1} << 20, kManyTokens - 1}) {
    Tokens other = tokens;
    other[static_cast<std::size_t>(changed)] ^= 1;
    write_llmc_bin(folder / "other.bin", other, 1000);
    EXPECT_NE(hash, hash_of({"other.bin"})) << changed;
  }
}

TEST(TokenDataset, HasAnotherHashWhereFilesEndElsewhere) {
  const path folder = fresh_directory();
  write_llmc_bin(folder / "a.bin", Tokens{1, 2, 3}, 10);
  write_llmc_bin(folder / "b.bin", Tokens{4}, 10);
  write_llmc_bin(folder / "c.bin", Tokens{1, 2}, 10);
  write_llmc_bin(folder / "d.bin", Tokens{3, 4}, 10);
  const Paths one = {folder / "a.bin", folder / "b.bin"}, two = {folder / "c.bin", folder / "d.bin"};
  EXPECT_NE(TokenDataset::open(one, 10).content_hash(), TokenDataset::open(two, 10).content_hash());
}

TEST(TokenDataset, ABadTokenInOneRanksSliceFailsAllRanks) {
  const Paths paths = {fresh_directory() / "a.bin"};
  Tokens tokens = counted(kManyTokens, 1000);
  tokens.back() = 1000;
  write_llmc_bin(paths[0], tokens, 1001);
  std::atomic<int> num_refused = 0;
  run_ranks(3, [&](Communicator& world) {
    try {
      TokenDataset::open(paths, 1000, world);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kData);
      EXPECT_TRUE(error.agreed());
      EXPECT_NE(std::string(error.what()).find("token 2499999 is 1000"), std::string::npos) << error.what();
      ++num_refused;
    }
  });
  EXPECT_EQ(num_refused, 3);
}

TEST(TokenDataset, RanksThatSeeOtherFilesAreRefused) {
  const path folder = fresh_directory();
  write_llmc_bin(folder / "a.bin", counted(10, 10), 10);
  write_llmc_bin(folder / "b.bin", counted(11, 10), 10);
  std::atomic<int> num_refused = 0;
  run_ranks(2, [&](Communicator& world) {
    const Paths mine = {folder / (world.rank() == 0 ? "a.bin" : "b.bin")};
    EXPECT_EQ(fault_of([&] { TokenDataset::open(mine, 10, world); }), Fault::kConfig);
    const Paths absent = {folder / (world.rank() == 0 ? "a.bin" : "absent.bin")};
    EXPECT_EQ(fault_of([&] { TokenDataset::open(absent, 10, world); }), Fault::kData);
    ++num_refused;
  });
  EXPECT_EQ(num_refused, 2);
}

class ArrayFiles : public testing::Test {
 protected:
  template <class T>
  std::string write(const std::string& name, DType dtype, const Indices& shape,
                    const std::vector<T>& values) {
    write_npy(folder_ / name, dtype, shape, std::as_bytes(std::span(values)));
    return folder_ / name;
  }
  path folder_ = fresh_directory();
};

TEST_F(ArrayFiles, RowsAreSamples) {
  const std::vector<ArrayDataset::Source> sources = {
      {"field", write<float>("field.npy", DType::kF32, {3, 2, 1}, {1, 2, 3, 4, 5, 6})},
      {"wide", write<double>("wide.npy", DType::kF64, {3}, {0.5, 1.0 / 3, 1e300})},
      {"class", write<std::int32_t>("class.npy", DType::kI32, {3, 1}, {7, 8, 9})}};
  const ArrayDataset dataset = ArrayDataset::open(sources);
  EXPECT_EQ(dataset.num_samples(), 3);
  EXPECT_EQ(dataset.find("field")->row_elements(), 2);
  EXPECT_EQ(dataset.find("none"), nullptr);
  std::vector<float> field(6), rounded(3);
  std::vector<double> wide(3);
  std::vector<std::int32_t> classes(3);
  const std::vector<NamedBuffer> buffers = {
      buffer_of("class", DType::kI32, classes), buffer_of("wide", DType::kF32, rounded),
      buffer_of("field", DType::kF32, field), buffer_of("wide", DType::kF64, wide)};
  dataset.fill(Indices{1, kPaddingSample, 2}, buffers);
  EXPECT_EQ(field, (std::vector<float>{3, 4, 0, 0, 5, 6}));
  EXPECT_EQ(wide, (std::vector<double>{1.0 / 3, 0, 1e300}));
  EXPECT_EQ(rounded, (std::vector<float>{1.0f / 3, 0, std::numeric_limits<float>::infinity()}));
  EXPECT_EQ(classes, (std::vector<std::int32_t>{8, 0, 9}));
  const std::vector<NamedBuffer> mistyped = {buffer_of("class", DType::kF32, rounded)};
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1, 2}, mistyped); }), Fault::kConfig);
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1, 3}, buffers); }), Fault::kBug);
  EXPECT_EQ(fault_of([&] { dataset.fill(Indices{0, 1}, buffers); }), Fault::kBug);
}

TEST_F(ArrayFiles, ThatDoNotBelongTogetherAreRefused) {
  const std::string two = write<float>("two.npy", DType::kF32, {2}, {1, 2});
  const std::string three = write<float>("three.npy", DType::kF32, {3}, {1, 2, 3});
  const std::string scalar = write<float>("scalar.npy", DType::kF32, {}, {1});
  const std::string none = write<float>("none.npy", DType::kF32, {0, 3}, {});
  using Sources = std::vector<ArrayDataset::Source>;
  EXPECT_EQ(fault_of([&] { ArrayDataset::open(Sources{{"a", two}, {"b", three}}); }), Fault::kData);
  EXPECT_EQ(fault_of([&] { ArrayDataset::open(Sources{{"a", scalar}}); }), Fault::kData);
  EXPECT_EQ(fault_of([&] { ArrayDataset::open(Sources{{"a", none}}); }), Fault::kData);
  EXPECT_EQ(fault_of([&] { ArrayDataset::open(Sources{{"a", two}, {"a", two}}); }), Fault::kConfig);
  EXPECT_EQ(fault_of([&] { ArrayDataset::open(Sources{}); }), Fault::kConfig);
}

TEST_F(ArrayFiles, HaveTheHashOfTheirContentOnAnyNumberOfRanks) {
  std::vector<float> values(2'500'000);
  std::iota(values.begin(), values.end(), 0.0f);
  std::vector<ArrayDataset::Source> sources = {
      {"x", write<float>("x.npy", DType::kF32, {1000, 2500}, values)},
      {"y", write<float>("y.npy", DType::kF32, {1000}, std::vector<float>(1000, 1.0f))}};
  const std::uint64_t hash = ArrayDataset::open(sources).content_hash();
  for (const int num_ranks : {1, 2, 3, 4})
    EXPECT_EQ(hash, hash_on(num_ranks, [&](Communicator& world) {
                return ArrayDataset::open(sources, world).content_hash();
              }));
  sources[0].path = write<float>("x2.npy", DType::kF32, {1000, 2500}, values);
  EXPECT_EQ(ArrayDataset::open(sources).content_hash(), hash) << "the same content under another path";
  sources[0].path = write<float>("x3.npy", DType::kF32, {1000, 50, 50}, values);
  EXPECT_NE(ArrayDataset::open(sources).content_hash(), hash) << "another shape";
  values.back() += 1;
  sources[0].path = write<float>("x4.npy", DType::kF32, {1000, 2500}, values);
  EXPECT_NE(ArrayDataset::open(sources).content_hash(), hash) << "another element";
}

}  // namespace
}  // namespace takt
