// Safetensors: the file format of Hugging Face for named tensors, read strictly and written in one pass.
//
// A file is: header length (u64, little endian), header, data. The header is a JSON object
// {name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {key: text}}, with
// offsets from the start of the data. Source: https://github.com/huggingface/safetensors
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/tensor.h"
#include "core/state/durable_file.h"
#include "core/state/mapped_file.h"

namespace takt {

// What a file may hold: more than Takt computes with, since other software writes it.
enum class StoredDType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };
std::size_t num_bytes(StoredDType dtype);
std::string_view name_of(StoredDType dtype);  // as in the file: "F32"
StoredDType stored(DType dtype);

struct StoredTensor {
  StoredDType dtype = StoredDType::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  // from the start of the file; need not be aligned
  std::uint64_t num_bytes = 0;
};
using StoredTensors = std::map<std::string, StoredTensor, std::less<>>;

// Printable ASCII without spaces, 1 to 256 characters.
bool is_tensor_name(std::string_view name);

// Reads the header of a whole file held in memory. Refuses, as kData naming `file_name` and the reason: a
// header over 16 MiB, a key twice, numbers that are not whole, products that overflow, more than 8
// dimensions, and data that the tensors do not cover exactly once.
StoredTensors parse_safetensors(std::span<const std::byte> file, const std::string& file_name);

// A mapped file. Its pages are read when they are touched.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return path_; }
  const StoredTensors& tensors() const { return tensors_; }
  // Null where there is no such tensor.
  const StoredTensor* find(std::string_view name) const;
  const std::byte* data(const StoredTensor& tensor) const { return file_.bytes().data() + tensor.offset; }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  StoredTensors tensors_;
};

struct TensorSpec {
  std::string name;
  StoredDType dtype = StoredDType::kF32;
  std::vector<std::int64_t> shape;
};

// Writes a file in one pass: the header when it is made, then the tensors' elements in the order of `tensors`.
class SafetensorsWriter {
 public:
  // Throws kIo.
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata,
                    const DurableFileOptions& options = {});
  void append(const void* bytes, std::size_t num_bytes);
  // Durable and read back on return. Throws kIo.
  FileDigest commit();

 private:
  DurableFile file_;
  std::uint64_t missing_bytes_ = 0;
};

}  // namespace takt
