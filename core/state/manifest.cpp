// manifest.json is
//   {"xxh3":"<32 digits>","checkpoint":<body>}
// with the hash of the body's exact bytes. A reader rebuilds the frame around the body it found and compares,
// so a flipped byte anywhere is an error and no second spelling of one manifest exists.
#include "core/state/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/state/safetensors.h"
#include "core/state/strict_json.h"

namespace takt {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Version 1 has no table of compared facts.
constexpr std::int64_t kFirstVersion = 1, kVersion = 2;
constexpr std::size_t kMaxRank = 8;
constexpr std::size_t kMaxFileNameLength = 128;
constexpr std::size_t kHashDigits = 32;
constexpr std::string_view kFrameBegin = "{\"xxh3\":\"";
constexpr std::string_view kFrameMiddle = "\",\"checkpoint\":\n";
constexpr std::string_view kFrameEnd = "\n}\n";
constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kI32};

std::string framed(std::string_view body) {
  return concat(kFrameBegin, content_hash(body), kFrameMiddle, body, kFrameEnd);
}

ordered_json to_json(const ManifestTensor& tensor) {
  ordered_json regions = ordered_json::array();
  for (const ManifestRegion& part : tensor.regions)
    regions.push_back({{"file", part.file}, {"offset", part.region.offset}, {"extent", part.region.extent}});
  return {{"name", tensor.name},
          {"optimizer", tensor.is_optimizer},
          {"dtype", name_of(tensor.dtype)},
          {"shape", tensor.global_shape},
          {"regions", std::move(regions)}};
}

ordered_json to_json(const Manifest& manifest) {
  ordered_json files = ordered_json::array();
  for (const ManifestFile& file : manifest.files)
    files.push_back({{"name", file.name}, {"num_bytes", file.digest.num_bytes}, {"xxh3", file.digest.xxh3}});
  ordered_json tensors = ordered_json::array();
  for (const ManifestTensor& tensor : manifest.tensors) tensors.push_back(to_json(tensor));
  return {{"version", kVersion},
          {"step", manifest.cursor.step},
          {"samples", manifest.cursor.samples},
          {"seed", manifest.cursor.seed},
          {"best_valid_loss", manifest.cursor.best_valid_loss},
          {"effective_job", manifest.cursor.effective_job},
          {"compared",
           {{"version", manifest.cursor.compared.version}, {"facts", manifest.cursor.compared.facts}}},
          {"files", std::move(files)},
          {"tensors", std::move(tensors)}};
}

DType parse_dtype(const json& value, const std::string& source) {
  for (const DType dtype : kDTypes)
    if (value == name_of(dtype)) return dtype;
  fail(Fault::kData, source, ": unknown dtype ", value.dump());
}

ManifestTensor parse_tensor(const json& value, const std::string& source) {
  ManifestTensor tensor;
  value.at("name").get_to(tensor.name);
  value.at("optimizer").get_to(tensor.is_optimizer);
  tensor.dtype = parse_dtype(value.at("dtype"), source);
  value.at("shape").get_to(tensor.global_shape);
  for (const json& part : value.at("regions")) {
    ManifestRegion& region = tensor.regions.emplace_back();
    part.at("file").get_to(region.file);
    part.at("offset").get_to(region.region.offset);
    part.at("extent").get_to(region.region.extent);
  }
  return tensor;
}

Manifest parse_body(const json& value, const std::string& source) {
  const json& version = value.at("version");
  if (!version.is_number_integer() || version < kFirstVersion || version > kVersion)
    fail(Fault::kData, source, ": has format version ", version.dump(), ", this Takt reads ", kFirstVersion,
         " to ", kVersion, "\n  load it with the Takt that wrote it");
  Manifest manifest;
  value.at("step").get_to(manifest.cursor.step);
  value.at("samples").get_to(manifest.cursor.samples);
  value.at("seed").get_to(manifest.cursor.seed);
  value.at("best_valid_loss").get_to(manifest.cursor.best_valid_loss);
  value.at("effective_job").get_to(manifest.cursor.effective_job);
  if (version > kFirstVersion) {
    value.at("compared").at("version").get_to(manifest.cursor.compared.version);
    value.at("compared").at("facts").get_to(manifest.cursor.compared.facts);
  }
  for (const json& entry : value.at("files")) {
    ManifestFile& file = manifest.files.emplace_back();
    entry.at("name").get_to(file.name);
    entry.at("num_bytes").get_to(file.digest.num_bytes);
    entry.at("xxh3").get_to(file.digest.xxh3);
  }
  for (const json& entry : value.at("tensors")) manifest.tensors.push_back(parse_tensor(entry, source));
  return manifest;
}

bool is_file_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxFileNameLength && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

void check_tensor(const ManifestTensor& tensor, std::size_t num_files, Fault fault,
                  const std::string& where) {
  if (!is_tensor_name(tensor.name) || tensor.global_shape.size() > kMaxRank ||
      !checked_volume(tensor.global_shape))
    fail(fault, where, " has a name or shape that is not valid");
  std::vector<Region> regions;
  for (const ManifestRegion& part : tensor.regions) {
    if (part.file >= num_files || !lies_within(part.region, tensor.global_shape))
      fail(fault, where, " has a region outside of its shape or in no file");
    regions.push_back(part.region);
  }
  if (const auto flaw = find_tiling_flaw(regions, tensor.global_shape))
    fail(fault, where,
         " is not covered exactly once: ", flaw->has_overlap ? "two regions overlap" : "there is a hole",
         " at element ", shape_text(flaw->element));
}

}  // namespace

std::string to_text(const Manifest& manifest) {
  return framed(to_json(manifest).dump());
}

Manifest parse_manifest(std::string_view text, const std::string& source) {
  const std::size_t begin = kFrameBegin.size() + kHashDigits + kFrameMiddle.size();
  const bool is_framed = text.size() >= begin + kFrameEnd.size();
  const std::string_view body =
      is_framed ? text.substr(begin, text.size() - begin - kFrameEnd.size()) : std::string_view();
  if (!is_framed || framed(body) != text)
    fail(Fault::kData, source, ": is damaged or edited, its hash does not match");
  try {
    return parse_body(parse_strict_json(body, source), source);
  } catch (const json::exception& error) {
    fail(Fault::kData, source, ": is not a manifest: ", error.what());
  }
}

void check_manifest(const Manifest& manifest, Fault fault, const std::string& source) {
  std::set<std::string_view> names;
  for (const ManifestFile& file : manifest.files)
    if (!is_file_name(file.name) || !names.insert(file.name).second)
      fail(fault, source, ": file name '", file.name, "' is not valid or not unique");
  names.clear();
  for (const ManifestTensor& tensor : manifest.tensors) {
    if (!names.insert(tensor.name).second) fail(fault, source, ": has tensor '", tensor.name, "' twice");
    check_tensor(tensor, manifest.files.size(), fault, source + ": tensor '" + tensor.name + "'");
  }
}

Manifest merged(std::span<const Manifest> parts) {
  Manifest whole;
  std::vector<ManifestTensor> tensors;
  for (const Manifest& part : parts) {
    for (const ManifestTensor& tensor : part.tensors) {
      tensors.push_back(tensor);
      for (ManifestRegion& region : tensors.back().regions) region.file += whole.files.size();
    }
    whole.files.insert(whole.files.end(), part.files.begin(), part.files.end());
  }
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const ManifestTensor& a, const ManifestTensor& b) { return a.name < b.name; });
  for (ManifestTensor& tensor : tensors) {
    if (whole.tensors.empty() || whole.tensors.back().name != tensor.name) {
      whole.tensors.push_back(std::move(tensor));
      continue;
    }
    ManifestTensor& same = whole.tensors.back();
    TAKT_ASSERT(same.dtype == tensor.dtype && same.global_shape == tensor.global_shape &&
                    same.is_optimizer == tensor.is_optimizer,
                "ranks disagree about the type or shape of tensor '", tensor.name, "'");
    same.regions.insert(same.regions.end(), tensor.regions.begin(), tensor.regions.end());
  }
  return whole;
}

}  // namespace takt
