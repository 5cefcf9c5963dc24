// The keys whose text has a form of its own: quantities with units, the mesh layout, the seed.
#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "core/base/units.h"
#include "launch/job_key.h"

namespace takt {
namespace {

constexpr std::int64_t kMostThreads = 4096;
constexpr double kMostHangTimeout_s = 1e9;

const std::string* text_of(const JobValue& value) {
  return std::get_if<std::string>(&value.data);
}

// "500 steps" -> 500; nullopt for another unit or a number below 1.
std::optional<std::int64_t> amount_of(const std::string& text, std::string_view unit) {
  const auto quantity = parse_quantity(text);
  if (!quantity || quantity->unit != unit || quantity->amount < 1) return std::nullopt;
  return quantity->amount;
}

std::string quoted_steps(std::int64_t steps) {
  return fmt::format("\"{} steps\"", steps);
}

// The largest unit that divides the time, so that what people wrote reads the same.
std::string quoted_duration(double time_s) {
  if (std::fmod(time_s, 3600) == 0) return fmt::format("\"{}h\"", time_s / 3600);
  if (std::fmod(time_s, 60) == 0) return fmt::format("\"{}m\"", time_s / 60);
  return fmt::format("\"{}s\"", time_s);
}

std::string quoted_bytes(double num_bytes) {
  if (std::fmod(num_bytes, 0x1p20) == 0) return fmt::format("\"{}MiB\"", num_bytes / 0x1p20);
  if (std::fmod(num_bytes, 1e6) == 0) return fmt::format("\"{}MB\"", num_bytes / 1e6);
  return fmt::format("\"{:.0f}B\"", num_bytes);
}

bool set_global_batch(Job& job, const JobValue& value) {
  const std::string* text = text_of(value);
  if (!text) return false;
  const auto tokens = amount_of(*text, "tokens");
  const auto samples = amount_of(*text, "samples");
  if (!tokens && !samples) return false;
  job.train.global_batch = tokens ? *tokens : *samples;
  job.train.global_batch_unit = tokens ? "tokens" : "samples";
  return true;
}

bool set_betas(std::array<double, 2>& to, const JobValue& value) {
  const auto* list = std::get_if<std::vector<JobValue>>(&value.data);
  if (!list || list->size() != 2) return false;
  std::array<double, 2> betas{};
  for (std::size_t i = 0; i < 2; ++i) {
    const JobValue& item = (*list)[i];
    if (const auto* real = std::get_if<double>(&item.data))
      betas[i] = *real;
    else if (const auto* whole = std::get_if<std::int64_t>(&item.data))
      betas[i] = static_cast<double>(*whole);
    else
      return false;
    if (!from_to_below(0, 1).contains(betas[i])) return false;
  }
  to = betas;
  return true;
}

// "auto", or a table of at least one mesh axis. An axis "data" that is absent takes what the others leave.
bool set_layout(Job& job, const JobValue& value) {
  MeshConfig mesh = job.mesh;
  for (const LayoutAxis& axis : kLayoutAxes) mesh.*axis.size = 1;
  if (const std::string* text = text_of(value)) {
    if (*text != "auto") return false;
    mesh.is_auto = true;
    job.mesh = mesh;
    return true;
  }
  const auto* table = std::get_if<std::vector<JobField>>(&value.data);
  if (!table || table->empty()) return false;
  mesh.is_auto = false;
  mesh.data = 0;
  for (const JobField& field : *table) {
    const auto* size = std::get_if<std::int64_t>(&field.value.data);
    const auto* axis = std::find_if(std::begin(kLayoutAxes), std::end(kLayoutAxes),
                                    [&](const LayoutAxis& known) { return known.name == field.name; });
    if (!size || *size < 1 || *size > (1 << 24) || axis == std::end(kLayoutAxes)) return false;
    mesh.*axis->size = *size;
  }
  job.mesh = mesh;
  return true;
}

std::string layout_text(const Job& job) {
  if (job.mesh.is_auto) return "\"auto\"";
  std::string text;
  for (const LayoutAxis& axis : kLayoutAxes) {
    const std::int64_t size = job.mesh.*axis.size;
    const bool is_said = axis.name == "data" ? size > 0 : size > 1 || axis.name == "tensor";
    if (is_said) text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", axis.name, size);
  }
  return "{ " + text + " }";
}

bool set_checkpoint_every(Job& job, const JobValue& value) {
  const std::string* text = text_of(value);
  if (!text) return false;
  const auto steps = amount_of(*text, "steps");
  const auto time_s = parse_duration_s(*text);
  if (!steps && *text != "off" && !(time_s && *time_s > 0 && std::isfinite(*time_s))) return false;
  job.checkpoint.every_steps = steps.value_or(0);
  job.checkpoint.every_s = steps ? 0 : time_s.value_or(0);
  return true;
}

std::string checkpoint_every_text(const Job& job) {
  if (job.checkpoint.every_steps > 0) return quoted_steps(job.checkpoint.every_steps);
  return job.checkpoint.every_s > 0 ? quoted_duration(job.checkpoint.every_s) : "\"off\"";
}

}  // namespace

JobKey seed_key() {
  return {.name = "seed",
          .type = "whole number",
          .range = "at least 0",
          .help = "Decides the initial weights and the order of the data.",
          .set =
              [](Job& job, const JobValue& value) {
                const auto* number = std::get_if<std::int64_t>(&value.data);
                if (!number || *number < 0) return false;
                job.seed = static_cast<std::uint64_t>(*number);
                return true;
              },
          .get = [](const Job& job) { return std::to_string(job.seed); }};
}

JobKey threads_key() {
  return {.name = "threads",
          .type = "whole number",
          .range = from_to(0, kMostThreads).text(),
          .help = "CPU threads a rank. 0: the cores of the host over its ranks.",
          .aliases = {"num_threads", "omp_num_threads"},
          .set =
              [](Job& job, const JobValue& value) {
                const auto* number = std::get_if<std::int64_t>(&value.data);
                if (!number || *number < 0 || *number > kMostThreads) return false;
                job.threads = static_cast<int>(*number);
                return true;
              },
          .get = [](const Job& job) { return std::to_string(job.threads); }};
}

JobKey global_batch_key() {
  return {
      .name = "train.global_batch",
      .type = R"("8192 tokens" or "32 samples")",
      .help = "What one step consumes over all ranks. Micro-batches and accumulation follow from the plan.",
      .aliases = {"batch_size", "batch", "global_batch_size"},
      .set = set_global_batch,
      .get = [](const Job& job) {
        return fmt::format("\"{} {}\"", job.train.global_batch, job.train.global_batch_unit);
      }};
}

JobKey betas_key(std::string name, Member<std::array<double, 2>> member, std::string help) {
  return {.name = std::move(name),
          .type = "list of two numbers",
          .range = "each " + from_to_below(0, 1).text(),
          .help = std::move(help),
          .set = [member](Job& job, const JobValue& value) { return set_betas(member(job), value); },
          .get =
              [member](Job job) {
                const std::array<double, 2>& betas = member(job);
                return fmt::format("[{}, {}]", betas[0], betas[1]);
              }};
}

JobKey layout_key() {
  return {.name = "mesh.layout",
          .type = R"("auto" or { data = N, context = N, expert = N, tensor = N })",
          .help =
              "How ranks are arranged: samples over data, tokens of a sample over context, experts over "
              "expert, layers over tensor. "
              "auto: as is fastest, by an estimate, of what fits. Without data: what the others leave.",
          .aliases = {"data", "tensor", "context", "expert", "expert_parallel", "ep", "tensor_parallel", "tp",
                      "dp", "cp", "context_parallel"},
          .set = set_layout,
          .get = layout_text};
}

JobKey bucket_key() {
  return {.name = "mesh.bucket",
          .type = R"("auto" or a size such as "40MB")",
          .help = "Gradients reduced in one call. auto: chosen from the data-parallel degree.",
          .aliases = {"bucket_size", "bucket_cap_mb"},
          .set =
              [](Job& job, const JobValue& value) {
                const std::string* text = text_of(value);
                if (!text) return false;
                const auto num_bytes = parse_bytes(*text);
                if (*text != "auto" && (!num_bytes || *num_bytes == 0 || *num_bytes > (1ULL << 53)))
                  return false;
                job.mesh.bucket_bytes = static_cast<double>(num_bytes.value_or(0));
                return true;
              },
          .get =
              [](const Job& job) {
                return job.mesh.bucket_bytes > 0 ? quoted_bytes(job.mesh.bucket_bytes) : "\"auto\"";
              }};
}

JobKey checkpoint_every_key() {
  return {.name = "checkpoint.every",
          .type = R"("500 steps", "20m" or "off")",
          .help = "How often to save. off: only at the end.",
          .aliases = {"interval", "save_interval", "save_steps"},
          .set = set_checkpoint_every,
          .get = checkpoint_every_text};
}

JobKey eval_every_key() {
  return {
      .name = "eval.every",
      .type = R"("100 steps" or "off")",
      .help = "How often to measure the validation loss. off: only at the end.",
      .aliases = {"interval", "eval_interval", "eval_steps"},
      .set =
          [](Job& job, const JobValue& value) {
            const std::string* text = text_of(value);
            if (!text) return false;
            const auto steps = amount_of(*text, "steps");
            if (!steps && *text != "off") return false;
            job.eval.every = steps.value_or(0);
            return true;
          },
      .get = [](const Job& job) { return job.eval.every > 0 ? quoted_steps(job.eval.every) : "\"off\""; }};
}

JobKey hang_timeout_key() {
  return {.name = "guard.hang_timeout",
          .type = R"("600s" or "10m")",
          .range = "at least 1s",
          .help = "How long no rank may move on before the run ends with exit code 79 and a report.",
          .aliases = {"timeout", "watchdog", "heartbeat_timeout", "distributed_timeout"},
          .set =
              [](Job& job, const JobValue& value) {
                const std::string* text = text_of(value);
                if (!text) return false;
                const auto time_s = parse_duration_s(*text);
                if (!time_s || !(*time_s >= 1 && *time_s <= kMostHangTimeout_s)) return false;
                job.guard.hang_timeout_s = *time_s;
                return true;
              },
          .get = [](const Job& job) { return fmt::format("\"{}s\"", job.guard.hang_timeout_s); }};
}

}  // namespace takt
