// Safetensors: what is written is read back, and every malformed file is refused by name and reason.
#include "core/state/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"

namespace takt {
namespace {

std::filesystem::path fresh_directory(const std::string& name) {
  const std::filesystem::path directory =
      testing::TempDir() + "/takt-safetensors-" + name + "-" + random_suffix();
  std::filesystem::create_directories(directory);
  return directory;
}

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
  return file + header + data;
}

StoredTensors parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "model.safetensors");
}

TEST(Safetensors, RoundTripKeepsNamesShapesAndBytes) {
  const auto path = fresh_directory("round") / "a.safetensors";
  const std::vector<TensorSpec> specs = {{"wte.weight", StoredDType::kF32, {2, 3}},
                                         {"scalar", StoredDType::kF64, {}},
                                         {"empty", StoredDType::kI32, {0, 4}},
                                         {"half", StoredDType::kBF16, {3}},
                                         {"ids", StoredDType::kI32, {1}}};
  const float wte[6] = {1, 2, 3, 4, 5, 6};
  const double scalar = 0.1;
  const std::uint16_t half[3] = {0x3f80, 0x4000, 0x4040};
  const std::int32_t ids = -7;
  SafetensorsWriter writer(path, specs, {{"format", "pt"}}, {.mode = 0600});
  writer.append(wte, sizeof(wte));
  writer.append(&scalar, sizeof(scalar));
  writer.append(half, sizeof(half));
  writer.append(&ids, sizeof(ids));
  const FileDigest digest = writer.commit();
  EXPECT_EQ(digest, digest_file(path));
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));

  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), specs.size());
  for (const TensorSpec& spec : specs) {
    ASSERT_NE(file.find(spec.name), nullptr) << spec.name;
    EXPECT_EQ(file.find(spec.name)->shape, spec.shape);
    EXPECT_EQ(file.find(spec.name)->dtype, spec.dtype);
  }
  EXPECT_EQ(file.find("wpe.weight"), nullptr);
  EXPECT_EQ(std::memcmp(file.data(*file.find("wte.weight")), wte, sizeof(wte)), 0);
  EXPECT_EQ(std::memcmp(file.data(*file.find("scalar")), &scalar, sizeof(scalar)), 0);
  EXPECT_EQ(std::memcmp(file.data(*file.find("half")), half, sizeof(half)), 0);
  EXPECT_EQ(std::memcmp(file.data(*file.find("ids")), &ids, sizeof(ids)), 0);
}

TEST(Safetensors, AnExistingFileStaysUntilTheNewOneIsWhole) {
  const auto path = fresh_directory("exists") / "a.safetensors";
  std::ofstream(path) << "precious";
  const std::vector<TensorSpec> specs = {{"a", StoredDType::kF32, {1}}};
  const float one = 1;
  for (const bool commits : {false, true}) {
    SafetensorsWriter writer(path, specs, {});
    writer.append(&one, sizeof(one));
    EXPECT_EQ(read_text_file(path, 100), "precious");
    if (commits) writer.commit();
  }
  EXPECT_NE(SafetensorsFile(path).find("a"), nullptr);
}

TEST(Safetensors, TheWriterRefusesTooFewBytes) {
  const std::vector<TensorSpec> specs = {{"a", StoredDType::kF32, {2}}};
  SafetensorsWriter writer(fresh_directory("few") / "a.safetensors", specs, {});
  const float one = 1;
  writer.append(&one, sizeof(one));
  EXPECT_THROW(writer.commit(), Error);
}

TEST(Safetensors, WhatOtherWritersDoIsRead) {
  EXPECT_TRUE(parse(file_of("{}", "")).empty());
  EXPECT_EQ(parse(file_of(R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}      )", "abcd")).size(),
            1u);
  EXPECT_EQ(
      parse(file_of(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                    R"("a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}})",
                    "ab"))
          .size(),
      2u);
}

struct Malformed {
  std::string what;
  std::string file;
};

std::string tensor(const std::string& fields, const std::string& data = "abcd") {
  return file_of("{\"a\":{" + fields + "}}", data);
}

std::vector<Malformed> malformed_headers() {
  const std::string ok = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  const std::string deep(64, '[');
  return {
      {"empty", ""},
      {"shorter than its length field", "abc"},
      {"header longer than the file", std::string("\xff\0\0\0\0\0\0\0{}", 10)},
      {"header length overflows", std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)},
      {"header over 16 MiB", file_of("{}" + std::string((std::size_t{16} << 20) - 1, ' '), "")},
      {"empty header", file_of("", "")},
      {"header begins with a space", file_of(" {}", "")},
      {"header is a list", file_of("[]", "")},
      {"header is cut short", file_of("{\"a\":", "")},
      {"text after the header", file_of("{} {}", "")},
      {"zero byte in the header", file_of(std::string("{}\0", 3), "")},
      {"invalid UTF-8", file_of("{\"\xff\":{" + ok + "}}", "abcd")},
      {"nested too deeply", file_of("{\"a\":" + deep, "")},
      {"the same tensor twice", file_of("{\"a\":{" + ok + "},\"a\":{" + ok + "}}", "abcd")},
      {"the same field twice", tensor(ok + R"(,"dtype":"F32")")},
      {"an unknown field", tensor(ok + R"(,"extra":1)")},
  };
}

std::vector<Malformed> malformed_tensors() {
  const std::string ok = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  return {
      {"no dtype", tensor(R"("shape":[1],"data_offsets":[0,4])")},
      {"no shape", tensor(R"("dtype":"F32","data_offsets":[0,4])")},
      {"no offsets", tensor(R"("dtype":"F32","shape":[1])")},
      {"an unknown dtype", tensor(R"("dtype":"F33","shape":[1],"data_offsets":[0,4])")},
      {"a dtype that is a number", tensor(R"("dtype":32,"shape":[1],"data_offsets":[0,4])")},
      {"a tensor that is no object", file_of(R"({"a":[1]})", "abcd")},
      {"a shape that is no list", tensor(R"("dtype":"F32","shape":1,"data_offsets":[0,4])")},
      {"a fraction in the shape", tensor(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])")},
      {"an exponent in the shape", tensor(R"("dtype":"F32","shape":[1e0],"data_offsets":[0,4])")},
      {"a negative extent", tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])")},
      {"text in the shape", tensor(R"("dtype":"F32","shape":["1"],"data_offsets":[0,4])")},
      {"nine dimensions", tensor(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4])")},
      {"a product over 2^64",
       tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0])", "")},
      {"a product that wraps to 4",
       tensor(R"("dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4])")},
      {"an extent over 2^64", tensor(R"("dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4])")},
      {"one offset", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])")},
      {"three offsets", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,4])")},
      {"offsets backwards", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])")},
      {"a negative offset", tensor(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])")},
      {"offsets past the end", tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])")},
      {"fewer bytes than the shape", tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])")},
      {"more bytes than the shape", tensor(R"("dtype":"F32","shape":[0],"data_offsets":[0,4])")},
      {"a hole at the start", tensor(R"("dtype":"F16","shape":[1],"data_offsets":[2,4])")},
      {"bytes after the last tensor", tensor(ok, "abcdef")},
      {"a file cut short", tensor(ok, "abc")},
      {"a hole between tensors",
       file_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],)"
               R"("data_offsets":[2,3]}})",
               "abc")},
      {"overlapping tensors",
       file_of(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F16","shape":[1],)"
               R"("data_offsets":[1,3]}})",
               "abc")},
      {"the same bytes twice",
       file_of(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F16","shape":[1],)"
               R"("data_offsets":[0,2]}})",
               "ab")},
      {"metadata that is a list", file_of(R"({"__metadata__":[]})", "")},
      {"metadata that holds a number", file_of(R"({"__metadata__":{"a":1}})", "")},
      {"an empty name", file_of("{\"\":{" + ok + "}}", "abcd")},
      {"a name with a line break", file_of("{\"a\\nb\":{" + ok + "}}", "abcd")},
      {"a name of 257 characters", file_of("{\"" + std::string(257, 'a') + "\":{" + ok + "}}", "abcd")},
  };
}

TEST(Safetensors, EveryMalformedFileIsRefusedByName) {
  std::vector<Malformed> files = malformed_headers();
  for (const Malformed& malformed : malformed_tensors()) files.push_back(malformed);
  for (const Malformed& malformed : files) {
    try {
      parse(malformed.file);
      ADD_FAILURE() << "accepted: " << malformed.what;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kData) << malformed.what;
      EXPECT_TRUE(std::string_view(error.what()).starts_with("model.safetensors: ")) << error.what();
    }
  }
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])");
  EXPECT_EQ(parse(whole).size(), 1u);
  for (std::size_t length = 0; length < whole.size(); ++length)
    EXPECT_THROW(parse(whole.substr(0, length)), Error) << length;
}

}  // namespace
}  // namespace takt
