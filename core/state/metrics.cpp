// metrics.jsonl. Numbers are printed with the digits that read back as the same double; what is not finite
// becomes null, since JSON has no word for it. A line is one write() to a descriptor opened for appending, so
// a crash leaves at most one torn line, the last.
#include "core/state/metrics.h"

#include <fcntl.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/base/error.h"
#include "core/state/durable_file.h"
#include "core/state/mapped_file.h"
#include "core/state/weights_hash.h"

namespace takt {
namespace {

using nlohmann::ordered_json;
using std::filesystem::path;

// The step of a line; nullopt where it is not one of ours.
std::optional<std::int64_t> step_of_line(std::string_view line) {
  const auto value = nlohmann::json::parse(line, nullptr, false);
  if (!value.is_object() || !value.contains("step") || !value["step"].is_number_integer())
    return std::nullopt;
  return value["step"].get<std::int64_t>();
}

// The lines to keep, whole.
std::string lines_up_to(std::string_view text, std::int64_t last_step, const path& file) {
  std::string kept;
  for (std::size_t begin = 0, number = 1; begin < text.size(); ++number) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) break;  // cut short
    const std::string_view line = text.substr(begin, end - begin);
    const std::optional<std::int64_t> step = step_of_line(line);
    if (!step)
      fail(Fault::kData, file.string(), ":", number, ": not a JSON object with a whole 'step'",
           "\n  move the file away; a new one is made");
    if (*step <= last_step) kept.append(line).push_back('\n');
    begin = end + 1;
  }
  return kept;
}

FileDescriptor open_to_append(const path& file) {
  FileDescriptor descriptor = open_descriptor(file, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (!descriptor) fail_io(file, "open", errno);
  return descriptor;
}

void drop_lines_after(const path& file, std::int64_t last_step) {
  if (type_of(file) == std::filesystem::file_type::not_found) return;
  const MappedFile old(file);
  const std::string kept = lines_up_to(old.text(), last_step, file);
  if (kept != old.text()) write_file_atomically(file, kept);
}

template <class Json, class Number>
void add(Json& object, const char* key, const std::optional<Number>& value) {
  if (value) object[key] = *value;
}

}  // namespace

MetricsWriter::MetricsWriter(const path& path, std::int64_t last_step) : path_(path) {
  drop_lines_after(path, last_step);
  descriptor_ = open_to_append(path);
}

void MetricsWriter::write(const StepMetrics& metrics) {
  ordered_json line = {{"step", metrics.step},
                       {"time", metrics.time_s},
                       {"loss", metrics.loss},
                       {"grad_norm", metrics.grad_norm},
                       {"lr", metrics.lr},
                       {metrics.unit, metrics.units},
                       {"step_ms", metrics.step_ms},
                       {metrics.unit + "_per_s", metrics.units_per_s},
                       {"tflops_per_rank", metrics.tflops_per_rank}};
  add(line, "mfu", metrics.mfu);
  add(line, "comm_ms", metrics.comm_ms);
  add(line, "comm_exposed_ms", metrics.comm_exposed_ms);
  line["mem_peak_bytes"] = metrics.mem_peak_bytes;
  write_line(line.dump());
}

void MetricsWriter::write(const ValidMetrics& metrics) {
  ordered_json line = {{"step", metrics.step}, {"valid_loss", metrics.valid_loss}};
  for (const auto& [name, number] : metrics.figures) line["valid_" + name] = number;
  write_line(line.dump());
}

void MetricsWriter::write_line(const std::string& line) {
  const std::string text = line + "\n";
  write_all(descriptor_.get(), path_, text.data(), text.size());
}

std::optional<double> number_of_step(const path& path, std::int64_t step, const char* key) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  const MappedFile file(path);
  std::optional<double> number;
  for (std::size_t begin = 0, end = 0; (end = file.text().find('\n', begin)) != std::string_view::npos;
       begin = end + 1) {
    const std::string_view line = file.text().substr(begin, end - begin);
    if (step_of_line(line) != step) continue;
    const auto value = nlohmann::json::parse(line);
    if (value.contains(key) && value[key].is_number()) number = value[key].get<double>();
  }
  return number;
}

void write_summary(const path& path, const RunSummary& summary) {
  ordered_json text = {{"name", summary.name},
                       {"steps", summary.steps},
                       {summary.unit, summary.units},
                       {"time_s", summary.time_s}};
  add(text, "loss", summary.loss);
  add(text, "valid_loss", summary.valid_loss);
  for (const auto& [name, number] : summary.valid_figures) text["valid_" + name] = number;
  text[summary.unit + "_per_s"] = summary.units_per_s;
  text["ranks"] = summary.ranks;
  text["mesh"] = summary.mesh;
  for (const OpShare& op : summary.ops)
    text["ops"].push_back(
        {{"op", op.op}, {"calls", op.num_calls}, {"ms", 1e3 * op.time_s}, {"share", op.share}});
  if (summary.skipped_steps > 0) text["skipped_steps"] = summary.skipped_steps;
  if (summary.weights_hash) text["weights_hash"] = hex_text(*summary.weights_hash);
  text["exit"] = summary.exit;
  write_file_atomically(path, text.dump(2) + "\n");
}

}  // namespace takt
