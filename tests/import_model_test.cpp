// Importing models: as Hugging Face lays them out, in any precision, and only those that fit.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/base/error.h"
#include "core/state/checkpoint.h"
#include "core/state/files.h"
#include "core/state/safetensors.h"

namespace takt {
namespace {

using std::filesystem::path;
using Shape = std::vector<std::int64_t>;
constexpr float kPadding = -1;  // what buffers hold before

path fresh_directory() {
  const path directory = testing::TempDir() + "/takt-import-" + random_suffix();
  std::filesystem::create_directories(directory);
  return directory;
}

void overwrite(const path& file, const std::string& text) {
  std::ofstream(file, std::ios::trunc) << text;
}

struct SourceTensor {
  std::string name;
  StoredDType dtype;
  Shape shape;
  std::string bytes;
};

template <class Element>
std::string bytes_of(const std::vector<Element>& elements) {
  return {reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(Element)};
}

void write_source(const path& file, const std::vector<SourceTensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const SourceTensor& tensor : tensors) specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(file, specs, {{"format", "pt"}});
  for (const SourceTensor& tensor : tensors) writer.append(tensor.bytes.data(), tensor.bytes.size());
  writer.commit();
}

// A model of two tensors as a job wants it.
struct Imported {
  std::vector<float> weight = std::vector<float>(6, kPadding);
  std::vector<float> bias = std::vector<float>(3, kPadding);
  std::vector<TensorShard> shards;
  std::vector<ExportedTensor> exported = {{"transformer.h.0.attn.c_attn.weight", {2, 3}},
                                          {"transformer.h.0.attn.c_attn.bias", {3}}};

  Imported() {
    TensorShard shard;
    shard.name = "transformer.h.0.attn.c_attn.weight";
    shard.global_shape = shard.buffer_shape = shard.extent = {2, 3};
    shard.offset = {0, 0};
    shard.memory = host_memory(weight.data(), DType::kF32);
    shards.push_back(shard);
    shard.name = "transformer.h.0.attn.c_attn.bias";  // not a buffer, for all its ending
    shard.global_shape = {3};
    shard.buffer_shape = shard.extent = {2};
    shard.offset = {1};
    shard.memory = host_memory(bias.data(), DType::kF32);
    shards.push_back(shard);
  }
};

const std::vector<float> kWeight = {1, -2, 0.5f, 4, 5, 6};
const std::vector<std::uint16_t> kBias16 = {0x3c00, 0xc000, 0x0001};  // f16: 1, -2, 2^-24

std::vector<SourceTensor> gpt2_tensors(const std::string& prefix) {
  return {{prefix + "h.0.attn.c_attn.weight", StoredDType::kF32, {2, 3}, bytes_of(kWeight)},
          {prefix + "h.0.attn.c_attn.bias", StoredDType::kF16, {3}, bytes_of(kBias16)},
          {prefix + "h.0.attn.bias", StoredDType::kBool, {1, 1, 2, 2}, "\1\1\1\1"}};
}

std::string import_refusal(const path& source) {
  Imported model;
  try {
    import_model(source, model.shards, model.exported);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kData) << error.what();
    EXPECT_EQ(model.weight, std::vector<float>(6, kPadding));
    return error.what();
  }
  return "";
}

// A tied model takes a file whose output projection repeats the embedding, and no other.
TEST(ImportModel, TiedModelsRefuseAnOutputProjectionOfItsOwn) {
  std::vector<float> table(6, kPadding);
  TensorShard shard{.name = "transformer.wte.weight", .memory = host_memory(table.data(), DType::kF32)};
  shard.global_shape = shard.buffer_shape = shard.extent = {2, 3};
  shard.offset = {0, 0};
  for (const bool is_copy : {true, false}) {
    const std::vector<float> head = is_copy ? kWeight : std::vector<float>{6, 5, 4, 3, 2, 1};
    const path file = fresh_directory() / "model.safetensors";
    write_source(file, {{"lm_head.weight", StoredDType::kF32, {2, 3}, bytes_of(head)},
                        {"transformer.wte.weight", StoredDType::kF32, {2, 3}, bytes_of(kWeight)}});
    std::string refusal;
    try {
      import_model(file, std::span(&shard, 1), std::vector<ExportedTensor>{{shard.name, {2, 3}}});
    } catch (const Error& error) {
      refusal = error.what();
    }
    if (is_copy)
      EXPECT_EQ(table, kWeight);
    else
      EXPECT_NE(refusal.find("set model.tied = false"), std::string::npos) << refusal;
  }
}

TEST(ImportModel, ConvertsHalfPrecisionAndMatchesNamesWithAnyPrefix) {
  for (const std::string prefix : {"transformer.", ""}) {
    const path file = fresh_directory() / "model.safetensors";
    write_source(file, gpt2_tensors(prefix));
    Imported model;
    import_model(file.parent_path(), model.shards, model.exported);
    EXPECT_EQ(model.weight, kWeight);
    EXPECT_EQ(model.bias, (std::vector<float>{-2, 0x1p-24f, kPadding}));
  }
}

TEST(ImportModel, ConvertsBF16AndEveryKindOfF16) {
  const path directory = fresh_directory();
  const std::vector<std::uint16_t> halves = {0x0000, 0x8000, 0x83ff, 0x7bff, 0x7c00, 0xfc00};
  std::vector<SourceTensor> tensors = {
      {"a.h.0.attn.c_attn.weight", StoredDType::kF16, {2, 3}, bytes_of(halves)}};
  tensors[0].name = "h.0.attn.c_attn.weight";
  const std::vector<std::uint16_t> brains = {0x3f80, 0xc000, 0x7f80};
  tensors.push_back({"h.0.attn.c_attn.bias", StoredDType::kBF16, {3}, bytes_of(brains)});
  write_source(directory / "a.safetensors", tensors);
  Imported model;
  import_model(directory / "a.safetensors", model.shards, model.exported);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(model.weight, (std::vector<float>{0, -0.0f, -1023 * 0x1p-24f, 65504, infinity, -infinity}));
  EXPECT_TRUE(std::signbit(model.weight[1]));
  EXPECT_EQ(model.bias, (std::vector<float>{-2, infinity, kPadding}));
}

TEST(ImportModel, ReadsSeveralFilesListedByAnIndex) {
  const path directory = fresh_directory();
  const std::vector<SourceTensor> tensors = gpt2_tensors("transformer.");
  write_source(directory / "model-00001-of-00002.safetensors", {tensors[0]});
  write_source(directory / "model-00002-of-00002.safetensors", {tensors[1], tensors[2]});
  overwrite(
      directory / "model.safetensors.index.json",
      R"({"metadata":{},"weight_map":{"transformer.h.0.attn.c_attn.weight":"model-00001-of-00002.safetensors",)"
      R"("transformer.h.0.attn.c_attn.bias":"model-00002-of-00002.safetensors"}})");
  Imported model;
  import_model(directory, model.shards, model.exported);
  EXPECT_EQ(model.weight, kWeight);
}

TEST(ImportModel, AnIndexCannotLeaveItsFolder) {
  for (const std::string name : {"\"../model.safetensors\"", "\"/etc/passwd\"", "\"..\"", "\"\"", "3"}) {
    const path directory = fresh_directory();
    overwrite(directory / "model.safetensors.index.json", "{\"weight_map\":{\"a\":" + name + "}}");
    EXPECT_NE(import_refusal(directory).find("wanted a file name"), std::string::npos) << name;
  }
}

TEST(ImportModel, WhatDoesNotFitIsRefusedByName) {
  const auto refused = [](std::vector<SourceTensor> tensors) {
    const path file = fresh_directory() / "a.safetensors";
    write_source(file, tensors);
    return import_refusal(file);
  };
  std::vector<SourceTensor> tensors = gpt2_tensors("");
  tensors.push_back({"h.1.attn.c_attn.bias", StoredDType::kF16, {3}, bytes_of(kBias16)});
  EXPECT_NE(refused(tensors).find("'h.1.attn.c_attn.bias', which this model does not have"),
            std::string::npos);
  tensors = gpt2_tensors("");
  tensors.erase(tensors.begin());
  EXPECT_NE(refused(tensors).find("no tensor 'transformer.h.0.attn.c_attn.weight'"), std::string::npos);
  tensors = gpt2_tensors("");
  tensors[0] = {tensors[0].name, StoredDType::kF32, {1}, "abcd"};
  EXPECT_NE(refused(tensors).find("is [1], this model wants [2, 3]"), std::string::npos);
  tensors[0] = {tensors[0].name, StoredDType::kF32, {6}, bytes_of(kWeight)};
  EXPECT_NE(refused(tensors).find("is [6], this model wants [2, 3]"), std::string::npos);
  tensors[0] = {tensors[0].name, StoredDType::kF32, {3, 2}, bytes_of(kWeight)};
  EXPECT_NE(refused(tensors).find("it is stored transposed"), std::string::npos);
  tensors[0] = {tensors[0].name, StoredDType::kI32, {2, 3}, bytes_of(kWeight)};
  EXPECT_NE(refused(tensors).find("is I32, wanted F32, BF16 or F16"), std::string::npos);
  tensors = gpt2_tensors("");
  tensors.push_back({"transformer.h.0.attn.bias", StoredDType::kBool, {1}, "\1"});
  EXPECT_NE(refused(tensors).find("there twice"), std::string::npos);
  EXPECT_NE(import_refusal(fresh_directory()).find("holds neither"), std::string::npos);
  EXPECT_NE(import_refusal(fresh_directory() / "absent.safetensors").find("no such file"), std::string::npos);
}

}  // namespace
}  // namespace takt
