// Token datasets: both layouts come back as written, samples tile each file, and a damaged file is found when opened.
#include "core/state/token_dataset.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <sstream>

#include "core/base/error.h"

namespace takt {
namespace {

using Tokens = std::vector<std::int32_t>;

Tokens counted(int num_tokens) {
  Tokens tokens(static_cast<std::size_t>(num_tokens));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

template <class T>
std::string bytes_of(std::initializer_list<T> values) {
  std::string bytes;
  for (const T value : values) bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
  return bytes;
}

class TokenFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              ("takt_tokens_" + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ / name; }
  std::string read(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(path(name), std::ios::binary).rdbuf();
    return text.str();
  }
  void write(const std::string& name, std::string_view bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
  }

  TokenDataset open(const std::vector<std::string>& names, std::int64_t vocab_size) const {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(path(name));
    return TokenDataset::open(paths, vocab_size);
  }
  // All tokens of a dataset of one file.
  Tokens tokens_in(const std::string& name, std::int64_t vocab_size) const {
    const TokenDataset dataset = open({name}, vocab_size);
    Tokens tokens(static_cast<std::size_t>(dataset.num_tokens()) - 1), targets(tokens.size());
    dataset.sample(0, dataset.num_tokens() - 1, tokens.data(), targets.data());
    tokens.push_back(targets.back());
    return tokens;
  }
  void expect_refused(const std::string& name, std::int64_t vocab_size,
                      const std::string& part_of_message) const {
    try {
      open({name}, vocab_size);
      ADD_FAILURE() << name << " was opened, wanted: " << part_of_message;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kData);
      EXPECT_NE(std::string(error.what()).find(part_of_message), std::string::npos) << error.what();
    }
  }
  // The index of a Megatron dataset with two sequences, of 3 and 2 tokens.
  static std::string index(std::uint8_t type, int token_bytes) {
    return std::string("MMIDIDX\0\0", 9) + bytes_of<std::uint64_t>({1}) + bytes_of<std::uint8_t>({type}) +
           bytes_of<std::uint64_t>({2, 3}) + bytes_of<std::int32_t>({3, 2}) +
           bytes_of<std::int64_t>({0, 3 * token_bytes}) + bytes_of<std::int64_t>({0, 1, 2});
  }

  std::filesystem::path folder_;
};

TEST_F(TokenFiles, ComeBackAsWritten) {
  for (const std::int64_t vocab_size : {100, 65536, 65537, 200000}) {
    Tokens tokens = counted(50);
    tokens.push_back(static_cast<std::int32_t>(vocab_size) - 1);
    write_llmc_bin(path("a.bin"), tokens, vocab_size);
    EXPECT_EQ(tokens_in("a.bin", vocab_size), tokens);
    write_megatron(path("m"), tokens, vocab_size);
    EXPECT_EQ(tokens_in("m", vocab_size), tokens);
    const std::vector<std::int64_t> lengths = {20, 0, 31};
    write_megatron(path("m"), tokens, vocab_size, lengths);
    EXPECT_EQ(tokens_in("m", vocab_size), tokens);
  }
}

TEST_F(TokenFiles, HaveTheBytesOtherSoftwareExpects) {
  write_llmc_bin(path("a.bin"), Tokens{7, 300}, 1000);
  EXPECT_EQ(read("a.bin"), bytes_of<std::int32_t>({20240520, 1, 2}) + std::string(253 * 4, '\0') +
                               bytes_of<std::uint16_t>({7, 300}));
  write_llmc_bin(path("b.bin"), Tokens{7, 70000}, 128256);
  EXPECT_EQ(read("b.bin"), bytes_of<std::int32_t>({20240801, 7, 2}) + std::string(253 * 4, '\0') +
                               bytes_of<std::uint32_t>({7, 70000}));
  write_megatron(path("m"), Tokens{1, 2, 3, 4, 5}, 1000, std::vector<std::int64_t>{3, 2});
  EXPECT_EQ(read("m.bin"), bytes_of<std::uint16_t>({1, 2, 3, 4, 5}));
  EXPECT_EQ(read("m.idx"), index(8, 2));
}

TEST_F(TokenFiles, OfEveryMegatronIntegerTypeAreRead) {
  const std::vector<std::pair<std::uint8_t, std::string>> kinds = {
      {1, bytes_of<std::uint8_t>({1, 2, 3, 4, 5})}, {2, bytes_of<std::int8_t>({1, 2, 3, 4, 5})},
      {3, bytes_of<std::int16_t>({1, 2, 3, 4, 5})}, {4, bytes_of<std::int32_t>({1, 2, 3, 4, 5})},
      {5, bytes_of<std::int64_t>({1, 2, 3, 4, 5})}, {8, bytes_of<std::uint16_t>({1, 2, 3, 4, 5})}};
  for (const auto& [code, bytes] : kinds) {
    write("m.idx", index(code, static_cast<int>(bytes.size()) / 5));
    write("m.bin", bytes);
    EXPECT_EQ(tokens_in("m", 10), (Tokens{1, 2, 3, 4, 5})) << int{code};
  }
}

TEST_F(TokenFiles, AreCutIntoSamplesThatDoNotCrossFiles) {
  write_llmc_bin(path("a.bin"), counted(10), 100);  // samples of 4: 0..3, 4..7
  write_llmc_bin(path("b.bin"), counted(4), 100);   // too short for one
  write_megatron(path("m"), counted(5), 100);       // 0..3, whose last target is the last token
  const TokenDataset dataset = open({"a.bin", "b.bin", "m"}, 100);
  EXPECT_EQ(dataset.num_tokens(), 19);
  ASSERT_EQ(dataset.num_samples(4), 3);
  Tokens tokens(4), targets(4);
  for (const auto& [index, first] : std::vector<std::pair<int, int>>{{0, 0}, {1, 4}, {2, 0}}) {
    dataset.sample(index, 4, tokens.data(), targets.data());
    EXPECT_EQ(tokens, (Tokens{first, first + 1, first + 2, first + 3}));
    EXPECT_EQ(targets, (Tokens{first + 1, first + 2, first + 3, first + 4}));
  }
  EXPECT_THROW(dataset.sample(3, 4, tokens.data(), targets.data()), Error);
  EXPECT_THROW(dataset.sample(-1, 4, tokens.data(), targets.data()), Error);
}

TEST_F(TokenFiles, MustHoldOneSample) {
  write_llmc_bin(path("a.bin"), counted(10), 100);
  const TokenDataset dataset = open({"a.bin"}, 100);
  dataset.require_samples(9);
  try {
    dataset.require_samples(10);
    FAIL() << "10 tokens are no sample of 10 with targets";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kData);
    EXPECT_NE(std::string(error.what()).find("sequence longer than the data"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("at most 9"), std::string::npos) << error.what();
  }
}

TEST_F(TokenFiles, WithoutTokensHaveNoSamples) {
  write_llmc_bin(path("a.bin"), Tokens{}, 100);
  write_megatron(path("m"), Tokens{}, 100);
  EXPECT_EQ(open({"a.bin", "m"}, 100).num_samples(1), 0);
}

TEST_F(TokenFiles, ThatAreMissingOrForeignAreRefused) {
  expect_refused("none.bin", 100, "there is no such token file");
  EXPECT_THROW(open({}, 100), Error);
  write("short.bin", "text");
  expect_refused("short.bin", 100, "has 4 bytes, too few for the header");
  write("foreign.bin", std::string(4096, 'x'));
  expect_refused("foreign.bin", 100, "is not a token file");
  write("version.bin", bytes_of<std::int32_t>({20240520, 7, 0}) + std::string(253 * 4, '\0'));
  expect_refused("version.bin", 100, "begins with 20240520 version 7");
  write("negative.bin", bytes_of<std::int32_t>({20240520, 1, -5}) + std::string(253 * 4, '\0'));
  expect_refused("negative.bin", 100, "-5 tokens");
}

TEST_F(TokenFiles, ThatAreCutShortAreRefusedWithBothSizes) {
  write_llmc_bin(path("a.bin"), counted(100), 100);
  write("a.bin", read("a.bin").substr(0, 1100));
  expect_refused("a.bin", 100, "has 1100 bytes, but its header says 1224");
  write_megatron(path("m"), counted(100), 100);
  const std::string data = read("m.bin"), whole_index = read("m.idx");
  write("m.bin", data.substr(0, 150));
  expect_refused("m", 100, "has 150 bytes");
  std::filesystem::remove(path("m.bin"));
  expect_refused("m", 100, "no such file");
  write("m.bin", data);
  for (const std::size_t num_bytes : {0, 8, 20, 33, 40, 60}) {
    write("m.idx", whole_index.substr(0, num_bytes));
    expect_refused("m", 100, "m.idx");
  }
}

TEST_F(TokenFiles, WithTokensOutsideTheVocabularyAreRefusedByName) {
  write_llmc_bin(path("a.bin"), Tokens{1, 2, 99, 3}, 100);
  expect_refused("a.bin", 99, "a.bin: token 2 is 99, but the vocabulary has 99");
  write("m.idx", index(4, 4));
  write("m.bin", bytes_of<std::int32_t>({1, 2, 3, -4, 5}));
  expect_refused("m", 100, "m.bin: token 3 is -4");
}

TEST_F(TokenFiles, WithAnIndexThatDoesNotFitAreRefused) {
  write("m.bin", std::string(10, '\1'));
  const std::string good = index(8, 2);
  const auto changed = [&](std::size_t offset, std::string_view bytes) {
    std::string text = good;
    return text.replace(offset, bytes.size(), bytes);
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {changed(0, "XX"), "does not begin with MMIDIDX"},
      {changed(9, bytes_of<std::uint64_t>({2})), "has version 2"},
      {changed(17, bytes_of<std::uint8_t>({7})), "element type 7"},
      {changed(18, bytes_of<std::uint64_t>({~0ull})), "too few for"},
      {changed(34, bytes_of<std::int32_t>({-3})), "length -3"},
      {changed(50, bytes_of<std::int64_t>({4})), "begins at byte 4"}};
  for (const auto& [text, message] : cases) {
    write("m.idx", text);
    expect_refused("m", 1000, message);
  }
}

TEST_F(TokenFiles, AreNotWrittenWithTokensOutsideTheVocabulary) {
  EXPECT_THROW(write_llmc_bin(path("a.bin"), Tokens{100}, 100), Error);
  EXPECT_THROW(write_megatron(path("a"), Tokens{-1}, 100), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(TokenFiles, ThatCannotBeWrittenAreAnIoFault) {
  write("file", "x");
  try {
    write_llmc_bin(path("file/a.bin"), Tokens{1}, 100);
    FAIL() << "a file has no files in it";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kIo) << error.what();
  }
}

}  // namespace
}  // namespace takt
