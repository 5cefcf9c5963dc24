// Names and shapes of tensors do not tell a Llama from a Granite: config.json does.
#include "core/state/pretrained.h"

#include <nlohmann/json.hpp>
#include <system_error>

#include "core/base/error.h"
#include "core/models/registry.h"
#include "core/state/files.h"
#include "core/state/strict_json.h"

namespace takt {
namespace {

constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{16} << 20;
constexpr const char* kConfigName = "config.json";

}  // namespace

std::vector<ExportedTensor> exported_tensors(const Graph& graph) {
  std::vector<ExportedTensor> tensors;
  for (const Value& value : graph.values()) {
    if (value.role != Role::kParameter) continue;
    ExportedTensor tensor{value.name, value.parameter.value().export_shape};
    if (tensor.shape.empty())
      for (const Dim& dim : value.global_dims) tensor.shape.push_back(dim.extent);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

bool require_same_model(const std::filesystem::path& file_or_directory, const ModelConfig& model) {
  std::error_code error;
  const bool is_directory = std::filesystem::is_directory(file_or_directory, error);
  const std::filesystem::path config =
      (is_directory ? file_or_directory : file_or_directory.parent_path()) / kConfigName;
  const bool exists = std::filesystem::exists(config, error);
  if (error) fail_io(config, "examine", error.value());
  if (!exists) return false;
  const std::string source = config.string();
  const nlohmann::json json = parse_strict_json(read_text_file(config, kMaxConfigBytes), source);
  find_model(model.kind).require_same(model, json, source);
  return true;
}

}  // namespace takt
