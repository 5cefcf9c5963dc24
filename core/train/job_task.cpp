// Names and shapes of tensors do not tell a Llama from a Granite: config.json does.
#include "core/train/job_task.h"

#include <nlohmann/json.hpp>
#include <system_error>

#include "core/base/error.h"
#include "core/state/files.h"
#include "core/state/strict_json.h"

namespace takt {
namespace {

constexpr std::uint64_t kMostConfigBytes = std::uint64_t{1} << 30;
constexpr const char* kConfigName = "config.json";

[[noreturn]] void refuse_arrays(const JobTask& task) {
  fail(Fault::kUsage, "this model is a ", task.describe(), ", which does not turn arrays into arrays",
       "\n  a gpt continues text: `takt generate`");
}

}  // namespace

std::unique_ptr<Dataset> JobTask::open_inputs(const std::filesystem::path&) const {
  refuse_arrays(*this);
}

void JobTask::write_predictions(const std::filesystem::path&, std::vector<float>) const {
  refuse_arrays(*this);
}

bool require_same_model(const std::filesystem::path& file_or_directory, const JobTask& task) {
  std::error_code error;
  const bool is_directory = std::filesystem::is_directory(file_or_directory, error);
  const std::filesystem::path config =
      (is_directory ? file_or_directory : file_or_directory.parent_path()) / kConfigName;
  const bool exists = std::filesystem::exists(config, error);
  if (error) fail_io(config, "examine", error.value());
  if (!exists) return false;
  const std::string source = config.string();
  task.require_same_model(parse_strict_json(read_text_file(config, kMostConfigBytes), source), source);
  return true;
}

}  // namespace takt
