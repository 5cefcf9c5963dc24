// Fixed columns, so that lines of a long run stand under each other and scripts can cut them.
#include "launch/console_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/units.h"

namespace takt {
namespace {

constexpr double kLeastScientific = 1000;  // losses and norms from here on are written as 1.2e+03

// "  120/1500": the step right-aligned over the widths that occur in one run.
std::string progress(std::int64_t step, std::int64_t steps) {
  return fmt::format("{:>5}/{}", step, steps);
}

// A number of at most `width` characters, with `decimals` while it is of usual size.
std::string real(double value, int width, int decimals) {
  if (std::abs(value) < kLeastScientific || !std::isfinite(value))
    return fmt::format("{:>{}.{}f}", value, width, decimals);
  return fmt::format("{:>{}.1e}", value, width);
}

std::string step_time(double time_s) {
  if (time_s >= 10) return fmt::format("{:.1f}s", time_s);
  return time_s >= 0.01 ? fmt::format("{:.0f}ms", time_s * 1e3) : fmt::format("{:.2f}ms", time_s * 1e3);
}

// "15.9k"
std::string short_count(double amount) {
  if (amount >= 1e9) return fmt::format("{:.1f}G", amount / 1e9);
  if (amount >= 1e6) return fmt::format("{:.1f}M", amount / 1e6);
  return amount >= 1e3 ? fmt::format("{:.1f}k", amount / 1e3) : fmt::format("{:.0f}", amount);
}

std::string percent(const std::optional<double>& fraction) {
  return fraction ? fmt::format("{:.1f}%", *fraction * 100) : "-";
}

std::string plural(std::int64_t amount, std::string_view word) {
  return fmt::format("{} {}{}", amount, word, amount == 1 ? "" : "s");
}

std::string count_of(std::int64_t amount) {
  return format_count(static_cast<double>(amount));
}

std::string checkpoint_rhythm(const RunHeader& header) {
  if (header.checkpoint_steps > 0) return fmt::format("every {} steps", header.checkpoint_steps);
  return header.checkpoint_s > 0 ? "every " + format_duration(header.checkpoint_s) : "at the end";
}

std::string section_text(const SectionTime& section) {
  const double imbalance = section.average_s > 0 ? section.max_s / section.average_s - 1 : 0;
  return fmt::format("{:<14}{:>9.1f}{:>9.1f}{:>9.1f}{:>7}{:>8}", section.name, section.min_s * 1e3,
                     section.average_s * 1e3, section.max_s * 1e3, fmt::format("{:.0f}%", imbalance * 100),
                     percent(section.share));
}

std::string op_text(const OpShare& op) {
  return fmt::format("{:<36}{:>7.1f}{:>10.3f}{:>8}", op.op, op.num_calls, op.time_s * 1e3, percent(op.share));
}

}  // namespace

std::string header_text(const RunHeader& header) {
  std::string text =
      fmt::format("takt {} ({})   run {}\n", header.version, header.build, header.run_directory);
  text += fmt::format("ranks {} on {}{}   backend {}, {} a rank", header.num_ranks,
                      plural(header.num_hosts, "host"),
                      header.launcher.empty() ? "" : " (" + header.launcher + ")", header.backend,
                      plural(header.num_threads, "thread"));
  if (header.peak_flops_per_s > 0)
    text += fmt::format("   {} {:.2f} TFLOP/s a rank",
                        header.peak_is_measured ? "measured peak" : "data sheet's peak",
                        header.peak_flops_per_s / 1e12);
  text += fmt::format("\nmodel {} {} parameters   data {} train / {} valid {}   mesh {}   ", header.model,
                      count_of(header.num_parameters), count_of(header.train_units),
                      count_of(header.valid_units), header.unit, header.mesh);
  text += fmt::format("batch {} {} = {} x {} accumulated x {}{}\n", header.batch_units, header.unit,
                      plural(header.data_ranks, "rank"), header.accumulated, header.micro_batch,
                      header.units_a_sample == 1 ? "" : fmt::format(" x {}", header.units_a_sample));
  text += fmt::format("memory {} a rank", format_gib(header.memory_bytes));
  if (header.memory_limit_bytes > 0)
    text += fmt::format(" of {:.0f} GiB", static_cast<double>(header.memory_limit_bytes) / 0x1p30);
  text += fmt::format(" (planned)   checkpoint {} {}", format_bytes(header.checkpoint_bytes),
                      checkpoint_rhythm(header));
  if (header.predicted_step_s > 0)
    text += fmt::format("   predicted {:.2f} s a step, {} in all", header.predicted_step_s,
                        format_duration(header.predicted_step_s * static_cast<double>(header.steps)));
  return text;
}

std::string titles_text(std::int64_t steps, const std::string& unit) {
  const std::size_t width = std::to_string(steps).size() + 4;
  return fmt::format(" step{:{}}loss   gnorm      lr     step {:>10}    MFU   comm  exposed    mem    eta",
                     "", width, unit + "/s");
}

std::string step_text(const StepLine& line) {
  return fmt::format("{}  {}{}{:>9.1e}{:>8}{:>10}{:>7}{:>6}{:>9}{:>7}  {}", progress(line.step, line.steps),
                     real(line.loss, 6, 4), real(line.grad_norm, 8, 3), line.lr, step_time(line.step_s),
                     short_count(line.units_per_s), percent(line.mfu),
                     line.comm ? fmt::format("{:.0f}%", *line.comm * 100) : "-", percent(line.exposed),
                     fmt::format("{:.2f}G", static_cast<double>(line.memory_bytes) / 0x1p30),
                     format_duration(line.eta_s));
}

std::string words_of(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::string valid_text(const ValidLine& line) {
  std::string text = fmt::format("{}  valid {}", progress(line.step, line.steps), real(line.loss, 0, 4));
  for (const auto& [name, number] : line.figures) text += fmt::format("   {} {:.4g}", words_of(name), number);
  return text + fmt::format("   {:.1f}s{}", line.time_s, line.is_best ? "   best" : "");
}

std::string checkpoint_text(const CheckpointLine& line) {
  return fmt::format("{}  checkpoint {}   {} in {:.2f}s ({:.2f}s blocking){}",
                     progress(line.step, line.steps), line.name, format_bytes(line.num_bytes), line.time_s,
                     line.blocking_s, line.is_verified ? "   verified" : "");
}

std::string done_text(const DoneLine& line) {
  std::string text = fmt::format("done {}, {} {} in {}", plural(line.steps, "step"), count_of(line.num_units),
                                 line.unit, format_duration(line.time_s));
  if (line.loss) text += fmt::format("   loss {}", real(*line.loss, 0, 4));
  if (line.valid_loss) text += fmt::format("   valid {}", real(*line.valid_loss, 0, 4));
  if (line.units_per_s > 0) text += fmt::format("   mean {} {}/s", short_count(line.units_per_s), line.unit);
  if (line.mfu) text += fmt::format("   MFU {}", percent(line.mfu));
  if (!line.sections.empty())
    text += "\nsection          min ms   avg ms   max ms  imbal   share        (over ranks)";
  for (const SectionTime& section : line.sections) text += '\n' + section_text(section);
  if (!line.ops.empty())
    text += fmt::format("\n{:<36}{:>7}{:>10}{:>8}        (of a step, mean over ranks)", "op", "calls", "ms",
                        "share");
  for (const OpShare& op : line.ops) text += '\n' + op_text(op);
  return text;
}

}  // namespace takt
