// A reader of safetensors that takes nothing on trust: the offsets must tile the data from 0 to the end of
// the file, so that no tensor overlaps another, none points outside, and no bytes hide in between.
#include "core/state/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/state/region.h"
#include "core/state/strict_json.h"

namespace takt {
namespace {

using nlohmann::json;
static_assert(std::endian::native == std::endian::little,
              "safetensors data is little endian and copied as it is");

constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{16} << 20;
constexpr std::size_t kMaxRank = 8;
constexpr std::size_t kMaxNameLength = 256;
constexpr std::size_t kPrefixBytes = 8;  // the header's length
constexpr std::size_t kAlignment = 8;    // of the data, by padding the header with spaces
constexpr const char* kMetadataKey = "__metadata__";

struct DTypeRow {
  StoredDType dtype;
  std::string_view name;
  std::size_t num_bytes;
};
constexpr std::array<DTypeRow, 10> kDTypes = {{{StoredDType::kF64, "F64", 8},
                                               {StoredDType::kF32, "F32", 4},
                                               {StoredDType::kF16, "F16", 2},
                                               {StoredDType::kBF16, "BF16", 2},
                                               {StoredDType::kI64, "I64", 8},
                                               {StoredDType::kI32, "I32", 4},
                                               {StoredDType::kI16, "I16", 2},
                                               {StoredDType::kI8, "I8", 1},
                                               {StoredDType::kU8, "U8", 1},
                                               {StoredDType::kBool, "BOOL", 1}}};

const DTypeRow& row_of(StoredDType dtype) {
  for (const DTypeRow& row : kDTypes)
    if (row.dtype == dtype) return row;
  fail(Fault::kBug, "stored dtype ", static_cast<int>(dtype), " has no row");
}

template <class... Parts>
[[noreturn]] void refuse(const std::string& file_name, const Parts&... parts) {
  fail(Fault::kData, file_name, ": ", parts...,
       "\n  the file is damaged or not what it should be; copy or export it again");
}

std::int64_t whole_number(const json& value, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
    refuse(where, "wanted a whole number from 0 to 2^63 - 1, got ", value.dump());
  return value.get<std::int64_t>();
}

std::vector<std::int64_t> whole_numbers(const json& value, std::size_t max_length, const std::string& where) {
  if (!value.is_array() || value.size() > max_length)
    refuse(where, "wanted a list of at most ", max_length, " whole numbers");
  std::vector<std::int64_t> numbers;
  for (const json& number : value) numbers.push_back(whole_number(number, where));
  return numbers;
}

StoredDType parse_dtype(const json& value, const std::string& where) {
  const std::string name = value.is_string() ? value.get<std::string>() : value.dump();
  for (const DTypeRow& row : kDTypes)
    if (row.name == name) return row.dtype;
  refuse(where, "unknown dtype ", name);
}

StoredTensor parse_tensor(const json& value, std::uint64_t data_begin, std::uint64_t num_data_bytes,
                          const std::string& where) {
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets"))
    refuse(where, "wanted an object of dtype, shape and data_offsets");
  StoredTensor tensor;
  tensor.dtype = parse_dtype(value["dtype"], where);
  tensor.shape = whole_numbers(value["shape"], kMaxRank, where);
  const std::vector<std::int64_t> offsets = whole_numbers(value["data_offsets"], 2, where);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) refuse(where, "data_offsets are not [begin, end]");
  const auto begin = static_cast<std::uint64_t>(offsets[0]);
  const auto end = static_cast<std::uint64_t>(offsets[1]);
  if (end > num_data_bytes) refuse(where, "ends at byte ", end, " of ", num_data_bytes, " bytes of data");
  std::vector<std::int64_t> factors = tensor.shape;
  factors.push_back(static_cast<std::int64_t>(num_bytes(tensor.dtype)));
  const std::optional<std::int64_t> wanted_bytes = checked_volume(factors);
  if (!wanted_bytes || static_cast<std::uint64_t>(*wanted_bytes) != end - begin)
    refuse(where, "has ", end - begin, " bytes, which its shape and dtype do not give");
  tensor.offset = data_begin + begin;
  tensor.num_bytes = end - begin;
  return tensor;
}

void check_metadata(const json& metadata, const std::string& file_name) {
  if (!metadata.is_object()) refuse(file_name, kMetadataKey, " is not an object");
  for (const auto& [key, value] : metadata.items())
    if (!value.is_string())
      refuse(file_name, kMetadataKey, " has a value that is not text, under '", key, "'");
}

// Sorted by offset, each tensor must begin where the one before it ended.
void check_tiling(const StoredTensors& tensors, std::uint64_t data_begin, std::uint64_t num_file_bytes,
                  const std::string& file_name) {
  std::vector<const StoredTensors::value_type*> in_order;
  for (const auto& entry : tensors) in_order.push_back(&entry);
  std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.offset, a->second.num_bytes) <
           std::pair(b->second.offset, b->second.num_bytes);
  });
  std::uint64_t position = data_begin;
  for (const auto* entry : in_order) {
    const StoredTensor& tensor = entry->second;
    if (tensor.offset != position)
      refuse(file_name, "tensor '", entry->first, "' begins at byte ", tensor.offset, ", wanted ", position,
             tensor.offset < position ? ": it overlaps another" : ": there is a hole before it");
    position += tensor.num_bytes;
  }
  if (position != num_file_bytes)
    refuse(file_name, "its tensors end at byte ", position, " of a file of ", num_file_bytes, " bytes");
}

std::string make_header(std::span<const TensorSpec> tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::int64_t begin = 0;
  for (const TensorSpec& tensor : tensors) {
    TAKT_ASSERT(is_tensor_name(tensor.name) && tensor.name != kMetadataKey && !header.contains(tensor.name),
                "tensor name '", tensor.name, "' is not valid or not unique");
    TAKT_ASSERT(tensor.shape.size() <= kMaxRank && checked_volume(tensor.shape), "tensor '", tensor.name,
                "' has a shape that cannot be stored");
    const std::int64_t end =
        begin + volume(tensor.shape) * static_cast<std::int64_t>(num_bytes(tensor.dtype));
    header[tensor.name] = {
        {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

}  // namespace

std::size_t num_bytes(StoredDType dtype) {
  return row_of(dtype).num_bytes;
}
std::string_view name_of(StoredDType dtype) {
  return row_of(dtype).name;
}

StoredDType stored(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return StoredDType::kF32;
    case DType::kF64:
      return StoredDType::kF64;
    case DType::kBF16:
      return StoredDType::kBF16;
    case DType::kI32:
      return StoredDType::kI32;
    case DType::kU8:
      return StoredDType::kU8;
  }
  fail(Fault::kBug, "stored: unknown dtype");
}

bool is_tensor_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameLength &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

StoredTensors parse_safetensors(std::span<const std::byte> file, const std::string& file_name) {
  if (file.size() < kPrefixBytes) refuse(file_name, "has ", file.size(), " bytes, too few for safetensors");
  std::uint64_t num_header_bytes = 0;
  std::memcpy(&num_header_bytes, file.data(), kPrefixBytes);
  if (num_header_bytes > kMaxHeaderBytes || num_header_bytes > file.size() - kPrefixBytes)
    refuse(file_name, "says its header has ", num_header_bytes, " bytes, in a file of ", file.size());
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kPrefixBytes, num_header_bytes);
  if (!text.starts_with('{')) refuse(file_name, "its header does not begin with {");
  const json header = parse_strict_json(text, file_name);
  const std::uint64_t data_begin = kPrefixBytes + num_header_bytes;
  StoredTensors tensors;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) {
      check_metadata(value, file_name);
      continue;
    }
    if (!is_tensor_name(name))
      refuse(file_name, "holds a tensor whose name is not 1 to 256 printable characters");
    tensors[name] =
        parse_tensor(value, data_begin, file.size() - data_begin, file_name + ": tensor '" + name + "'");
  }
  check_tiling(tensors, data_begin, file.size(), file_name);
  return tensors;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path), file_(path), tensors_(parse_safetensors(file_.bytes(), path.string())) {}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata,
                                     const DurableFileOptions& options)
    : file_(path, options) {
  const std::string header = make_header(tensors, metadata);
  const std::uint64_t num_header_bytes = header.size();
  TAKT_ASSERT(num_header_bytes <= kMaxHeaderBytes, path.string(), ": a header of ", num_header_bytes,
              " bytes");
  file_.write(&num_header_bytes, kPrefixBytes);
  file_.write(header.data(), header.size());
  for (const TensorSpec& tensor : tensors)
    missing_bytes_ += static_cast<std::uint64_t>(volume(tensor.shape)) * num_bytes(tensor.dtype);
}

void SafetensorsWriter::append(const void* bytes, std::size_t num_bytes) {
  TAKT_ASSERT(num_bytes <= missing_bytes_, "more bytes than the tensors of the header have");
  missing_bytes_ -= num_bytes;
  file_.write(bytes, num_bytes);
}

FileDigest SafetensorsWriter::commit() {
  TAKT_ASSERT(missing_bytes_ == 0, missing_bytes_, " bytes of the tensors in the header were not written");
  return file_.commit();
}

}  // namespace takt
