// Npy: arrays come back as written, files of NumPy are read, and what is not such a file is refused.
#include "core/state/npy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/state/files.h"
#include "core/state/region.h"

namespace takt {
namespace {

std::filesystem::path fresh_file() {
  return std::filesystem::path(testing::TempDir()) / ("takt-npy-" + random_suffix() + ".npy");
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::string contents(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

// A file of version 1 with this header and as many elements as it is given bytes.
std::string file_with(const std::string& header, std::size_t num_bytes, char major = 1, char minor = 0) {
  const auto length = static_cast<std::uint32_t>(header.size());
  std::string file = std::string("\x93NUMPY") + major + minor;
  file.append(reinterpret_cast<const char*>(&length), major == 1 ? 2 : 4);
  return file + header + std::string(num_bytes, '\1');
}

// Padded as NumPy pads it: elements are aligned to 64 bytes.
std::string padded(std::string dictionary, char major = 1) {
  const std::size_t begin = major == 1 ? 10 : 12;
  while ((begin + dictionary.size() + 1) % 64 != 0) dictionary += ' ';
  return dictionary + '\n';
}

NpyHeader parse(const std::string& file) {
  return parse_npy(std::as_bytes(std::span(file)), "a.npy");
}

std::string refusal(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kData) << error.what();
    EXPECT_TRUE(std::string(error.what()).starts_with("a.npy: ")) << error.what();
    return error.what();
  }
  return "";
}

template <class T>
void expect_round_trip(DType dtype, const std::vector<std::int64_t>& shape, const std::vector<T>& values) {
  const std::filesystem::path path = fresh_file();
  write_npy(path, dtype, shape, bytes_of(values));
  const NpyFile file(path);
  EXPECT_EQ(file.dtype(), dtype);
  EXPECT_EQ(std::vector(file.shape().begin(), file.shape().end()), shape);
  ASSERT_EQ(file.elements().size(), values.size() * sizeof(T));
  EXPECT_EQ(std::memcmp(file.elements().data(), values.data(), file.elements().size()), 0);
}

TEST(Npy, ArraysComeBackAsWritten) {
  expect_round_trip<float>(DType::kF32, {2, 3}, {1, 2, 3, 4, 5, 6});
  expect_round_trip<double>(DType::kF64, {2}, {0.1, -0.2});
  expect_round_trip<std::int32_t>(DType::kI32, {1, 1, 2, 1, 1, 1, 1, 2}, {1, -2, 3, -4});
  expect_round_trip<float>(DType::kF32, {}, {7});
  expect_round_trip<float>(DType::kF32, {3, 0}, {});
}

// The bytes of numpy.save for [[1, 2, 3], [4, 5, 6]], as NumPy's description of the format has them.
TEST(Npy, HasTheBytesNumPyWrites) {
  const std::filesystem::path path = fresh_file();
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  write_npy(path, DType::kF32, std::vector<std::int64_t>{2, 3}, bytes_of(values));
  std::string wanted = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  wanted.resize(117, ' ');
  wanted += '\n';
  const std::string file = contents(path);
  ASSERT_EQ(file.size(), 128u + 24u);
  EXPECT_EQ(file.substr(0, 10), std::string_view("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_EQ(file.substr(10, 118), wanted);
  EXPECT_EQ(std::memcmp(file.data() + 128, values.data(), 24), 0);
}

TEST(Npy, OtherSpellingsAreRead) {
  const auto shape_of = [](const std::string& header, std::size_t num_bytes, char major = 1) {
    return parse(file_with(padded(header, major), num_bytes, major)).shape;
  };
  using Shape = std::vector<std::int64_t>;
  EXPECT_EQ(shape_of("{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<i4\"}", 8), Shape{2});
  EXPECT_EQ(shape_of("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", 8), Shape{});
  for (const char major : {'\1', '\2', '\3'})
    EXPECT_EQ(shape_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1,), }", 8, major),
              (Shape{2, 1}));
}

TEST(Npy, MalformedFilesAreRefused) {
  const auto header = [](const std::string& descr, const std::string& order, const std::string& shape) {
    return file_with(
        padded("{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }"), 8);
  };
  const std::string good = header("'<f4'", "False", "(2,)");
  ASSERT_EQ(refusal(good), "");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "is not an npy file"},
      {"\x93NUMPX" + good.substr(6), "is not an npy file"},
      {good.substr(0, 7), "is not an npy file"},
      {good.substr(0, 9), "says its npy header has 0 bytes"},
      {good.substr(0, 60), "says its npy header has"},
      {good.substr(0, good.size() - 1), "has 7 bytes of elements, its header says 8"},
      {good + "\1", "has 9 bytes of elements"},
      {file_with(padded("{}"), 8, 4), "has npy version 4.0"},
      {file_with(padded("{}"), 8, 1, 1), "has npy version 1.1"},
      {file_with(std::string(70'000, ' '), 8, 2), "says its npy header has 70000 bytes"},
      {file_with("", 8), "wanted {"},
      {file_with(padded("{}"), 8), "wanted the keys"},
      {file_with(padded("{'descr': '<f4', 'shape': (2,)}"), 8), "wanted the keys"},
      {file_with(padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}"), 8),
       "unknown key 'x'"},
      {file_with(padded("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"), 8),
       "twice"},
      {file_with(padded("{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}"), 8), "wanted , or }"},
      {file_with(padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x"), 8), "goes on"},
      {file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 8), "newline"},
      {file_with(padded("{'descr: '<f4', 'fortran_order': False, 'shape': (2,)}"), 8), "wanted :"},
      {file_with(padded("{'descr"), 8), "in quotes"},
      {header("'>f4'", "False", "(2,)"), "type '>f4'"},
      {header("'<f2'", "False", "(2,)"), "type '<f2'"},
      {header("'<i8'", "False", "(2,)"), "type '<i8'"},
      {header("'|O'", "False", "(2,)"), "type '|O'"},
      {header("[('a', '<f4')]", "False", "(2,)"), "a record"},
      {header("'<f4'", "True", "(2,)"), "Fortran order"},
      {header("'<f4'", "0", "(2,)"), "True or False"},
      {header("'<f4'", "False", "(2)"), "no tuple"},
      {header("'<f4'", "False", "(,)"), "wanted an extent"},
      {header("'<f4'", "False", "(2 1)"), "wanted , or )"},
      {header("'<f4'", "False", "(2,"), "wanted"},
      {header("'<f4'", "False", "2"), "wanted ("},
      {header("'<f4'", "False", "(-2,)"), "wanted an extent"},
      {header("'<f4'", "False", "(02,)"), "wanted an extent"},
      {header("'<f4'", "False", "(2L,)"), "wanted , or )"},
      {header("'<f4'", "False", "(2.0,)"), "wanted , or )"},
      {header("'<f4'", "False", "(1000000000000000002,)"), "wanted an extent"},
      {header("'<f4'", "False", "(1,1,1,1,1,1,1,1,2)"), "more than 8 dimensions"},
      {header("'<f4'", "False", "(4294967296, 4294967296)"), "more than 2^63"},
      {header("'<f4'", "False", "(4611686018427387904, 1)"), "wanted an extent"},
      {file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}   \n", 8), "align"},
  };
  for (const auto& [file, reason] : cases)
    EXPECT_NE(refusal(file).find(reason), std::string::npos) << reason << " in: " << refusal(file);
}

// Whatever byte changes in the header, the reader ends with an Error of the data or with the same array's size.
TEST(Npy, NoChangedByteOfAHeaderIsMisread) {
  const std::string good =
      file_with(padded("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }"), 8);
  for (std::size_t i = 0; i + 8 < good.size(); ++i)
    for (int byte = 0; byte < 256; ++byte) {
      std::string changed = good;
      changed[i] = static_cast<char>(byte);
      if (!refusal(changed).empty()) continue;
      const NpyHeader header = parse(changed);
      EXPECT_EQ(header.data_offset + 8, good.size());
      EXPECT_EQ(volume(header.shape) * static_cast<std::int64_t>(num_bytes(header.dtype)), 8);
    }
}

TEST(Npy, AFileThatIsMissingIsADataFault) {
  try {
    NpyFile("no-such-file.npy");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kData);
  }
}

}  // namespace
}  // namespace takt
