// Starting from a model that other software wrote, in safetensors files as Hugging Face lays them out. Names
// may lack or have the prefix of the architecture ("transformer.", "model."). Stored shapes must be those
// that an export writes; the order of elements is then the same: [embed, heads * head_dim] is [embed, heads, head_dim].
// Tensors of experts, of which the model has one stack, are read into the elements of its first axis.
#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/state/checkpoint.h"
#include "core/state/checkpoint_files.h"
#include "core/state/files.h"
#include "core/state/region.h"
#include "core/state/safetensors.h"
#include "core/state/strict_json.h"

namespace takt {
namespace {

using std::filesystem::path;

constexpr std::uint64_t kMaxIndexBytes = std::uint64_t{16} << 20;
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr std::string_view kTiedName = "lm_head.weight";
constexpr std::string_view kPrefixes[] = {"transformer.", "model."};
// Constants that some exporters store: causal masks and rotary frequencies.
constexpr std::string_view kBufferSuffixes[] = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"};

std::string_view without_prefix(std::string_view name) {
  for (const std::string_view prefix : kPrefixes)
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  return name;
}

bool is_buffer(std::string_view name) {
  return std::any_of(std::begin(kBufferSuffixes), std::end(kBufferSuffixes),
                     [&](std::string_view suffix) { return name.ends_with(suffix); });
}

// The files of the index, each once. An index only says which tensor lies where; the files themselves know better.
std::vector<path> files_of_index(const path& index) {
  const nlohmann::json root = parse_strict_json(read_text_file(index, kMaxIndexBytes), index.string());
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object())
    fail(Fault::kData, index.string(), ": has no object 'weight_map'");
  std::set<path> files;
  for (const auto& [tensor, file] : root["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : std::string();
    if (name.empty() || path(name).filename() != name || name == "." || name == "..")
      fail(Fault::kData, index.string(), ": places tensor '", tensor, "' in ", file.dump(),
           ", wanted a file name");
    files.insert(index.parent_path() / name);
  }
  return {files.begin(), files.end()};
}

std::vector<path> files_of(const path& file_or_directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(file_or_directory, error)) return {file_or_directory};
  if (std::filesystem::exists(file_or_directory / kSingleName, error))
    return {file_or_directory / kSingleName};
  if (std::filesystem::exists(file_or_directory / kIndexName, error))
    return files_of_index(file_or_directory / kIndexName);
  fail(Fault::kData, file_or_directory.string(), ": holds neither ", kSingleName, " nor ", kIndexName,
       "\n  model.init names a safetensors file, or a folder as Hugging Face lays it out");
}

struct Source {
  const SafetensorsFile* file;
  std::string_view name;
  const StoredTensor* tensor;
};

// By name without prefix.
std::map<std::string_view, Source> sources_in(std::span<const std::unique_ptr<SafetensorsFile>> files) {
  std::map<std::string_view, Source> sources;
  for (const auto& file : files)
    for (const auto& [name, tensor] : file->tensors())
      if (!sources.emplace(without_prefix(name), Source{file.get(), name, &tensor}).second)
        fail(Fault::kData, file->path().string(), ": tensor '", name,
             "' is there twice, with and without its prefix ", "or in two files");
  return sources;
}

float half_to_float(std::uint16_t half) {
  const auto sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in f32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide_exponent = exponent == 0x1fu ? 0xffu : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (mantissa << 13));
}

// The file's bytes need not be aligned, hence memcpy.
template <class Bits, class Convert>
void convert_run(const std::byte* from, float* to, std::int64_t num_elements, Convert convert) {
  for (std::int64_t i = 0; i < num_elements; ++i) {
    Bits bits;
    std::memcpy(&bits, from + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
    to[i] = convert(bits);
  }
}

void convert_to_f32(StoredDType dtype, const std::byte* from, float* to, std::int64_t num_elements) {
  if (dtype == StoredDType::kF32) {
    std::memcpy(to, from, static_cast<std::size_t>(num_elements) * sizeof(float));
  } else if (dtype == StoredDType::kBF16) {
    convert_run<std::uint16_t>(from, to, num_elements, [](std::uint16_t bits) {
      return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
    });
  } else {
    convert_run<std::uint16_t>(from, to, num_elements, half_to_float);
  }
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

// The same number of elements in another shape is another matrix: GPT-2's [in, out], stored [out, in].
void require_shape(const Source& source, const ExportedTensor& wanted) {
  const std::vector<std::int64_t>& stored = source.tensor->shape;
  if (stored == wanted.shape) return;
  const bool is_transposed =
      std::equal(stored.rbegin(), stored.rend(), wanted.shape.begin(), wanted.shape.end());
  fail(Fault::kData, source.file->path().string(), ": tensor '", source.name, "' is ", shape_text(stored),
       ", this model wants ", shape_text(wanted.shape), "\n  ",
       is_transposed ? "it is stored transposed, unlike in the files of Hugging Face"
                     : "the [model] table must describe the model in the file");
}

const ExportedTensor& exported_as(const TensorShard& shard, std::span<const ExportedTensor> exported) {
  const auto found = std::find_if(exported.begin(), exported.end(),
                                  [&](const ExportedTensor& tensor) { return tensor.name == shard.name; });
  TAKT_ASSERT(found != exported.end(), "import: nobody says which shape '", shard.name, "' has in files");
  return *found;
}

const Source& source_for(const std::map<std::string_view, Source>& sources, const std::string& name,
                         const path& origin) {
  const auto found = sources.find(without_prefix(name));
  if (found == sources.end())
    fail(Fault::kData, origin.string(), ": holds no tensor '", name, "'\n  ",
         name == kTiedName ? "its output projection is the embedding table: set model.tied = true"
                           : "the [model] table must describe the model in the file");
  const Source& source = found->second;
  const StoredDType dtype = source.tensor->dtype;
  if (dtype != StoredDType::kF32 && dtype != StoredDType::kBF16 && dtype != StoredDType::kF16)
    fail(Fault::kData, source.file->path().string(), ": tensor '", source.name, "' is ", name_of(dtype),
         ", wanted F32, BF16 or F16");
  return source;
}

// A tied model may come with a copy of the embedding as its output projection, but not with another matrix.
bool is_copy_of_embedding(const std::map<std::string_view, Source>& sources, const Source& head) {
  for (const std::string_view name : {"embed_tokens.weight", "wte.weight"}) {
    const auto found = sources.find(name);
    if (found == sources.end()) continue;
    const Source& table = found->second;
    const auto num_stored =
        static_cast<std::size_t>(volume(head.tensor->shape)) * num_bytes(head.tensor->dtype);
    return table.tensor->dtype == head.tensor->dtype && table.tensor->shape == head.tensor->shape &&
           std::memcmp(table.file->data(*table.tensor), head.file->data(*head.tensor), num_stored) == 0;
  }
  return false;
}

void refuse_unused(const std::map<std::string_view, Source>& sources,
                   const std::set<std::string_view>& used) {
  for (const auto& [key, source] : sources) {
    if (used.contains(key) || is_buffer(source.name)) continue;
    if (key == kTiedName && is_copy_of_embedding(sources, source)) continue;
    fail(Fault::kData, source.file->path().string(), ": holds tensor '", source.name,
         "', which this model does not have\n  ",
         key == kTiedName ? "its output projection is not the embedding table: set model.tied = false"
                          : "the [model] table must describe the model in the file");
  }
}

// Element `part` of the first axis as a shard by itself, or nothing where this rank does not have it.
std::optional<TensorShard> part_of(const TensorShard& shard, std::int64_t part) {
  const std::int64_t at = part - shard.offset.front();
  if (at < 0 || at >= shard.extent.front()) return std::nullopt;
  TensorShard element = shard;
  for (std::vector<std::int64_t>* shape :
       {&element.global_shape, &element.buffer_shape, &element.offset, &element.extent})
    shape->erase(shape->begin());
  const std::int64_t first = at * volume(element.buffer_shape);
  element.memory = {
      .read = [memory = shard.memory, first](std::int64_t from,
                                             std::span<std::byte> to) { memory.read(first + from, to); },
      .write = [memory = shard.memory, first](
                   std::int64_t from,
                   std::span<const std::byte> bytes) { memory.write(first + from, bytes); }};
  if (shard.memory.host != nullptr)
    element.memory.host = shard.memory.host + first * static_cast<std::int64_t>(sizeof(float));
  return element;
}

void fill(const TensorShard& shard, const Source& source) {
  const std::byte* from_data = source.file->data(*source.tensor);
  const auto stored_bytes = static_cast<std::int64_t>(num_bytes(source.tensor->dtype));
  const std::vector<std::int64_t> zeros(shard.extent.size(), 0);
  change_buffer(shard, [&](std::byte* buffer) {
    auto* to_data = reinterpret_cast<float*>(buffer);
    for_each_run({shard.extent, shard.global_shape, shard.offset, shard.buffer_shape, zeros},
                 [&](std::int64_t from, std::int64_t to, std::int64_t num_elements) {
                   convert_to_f32(source.tensor->dtype, from_data + from * stored_bytes, to_data + to,
                                  num_elements);
                 });
  });
}

}  // namespace

void import_model(const path& file_or_directory, std::span<const TensorShard> shards,
                  std::span<const ExportedTensor> exported) {
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  for (const path& file : files_of(file_or_directory))
    files.push_back(std::make_unique<SafetensorsFile>(file));
  const std::map<std::string_view, Source> sources = sources_in(files);
  std::vector<std::pair<TensorShard, const Source*>> pairs;
  std::set<std::string_view> used;
  for (const TensorShard& shard : shards) {
    if (shard.is_optimizer) continue;
    check_shard(shard);
    TAKT_ASSERT(shard.dtype == DType::kF32, "import into '", shard.name, "', which is ", shard.dtype,
                ", wanted f32");
    const std::vector<ExportedTensor> wanted = tensors_in_files(exported_as(shard, exported));
    for (std::size_t part = 0; part < wanted.size(); ++part) {
      const Source& source = source_for(sources, wanted[part].name, file_or_directory);
      require_shape(source, wanted[part]);
      used.insert(without_prefix(source.name));
      const bool is_whole = wanted.size() == 1 && wanted[0].name == shard.name;
      const auto number = static_cast<std::int64_t>(part);
      if (auto piece = is_whole ? std::optional(shard) : part_of(shard, number))
        pairs.emplace_back(std::move(*piece), &source);
    }
  }
  refuse_unused(sources, used);
  for (const auto& [shard, source] : pairs) fill(shard, *source);
}

}  // namespace takt
