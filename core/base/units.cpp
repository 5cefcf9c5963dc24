// Reading and writing quantities with units.
#include "core/base/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

namespace takt {
namespace {

// Splits "1.5GiB" into 1.5 and "GiB"; nullopt where no number stands in front.
std::optional<std::pair<double, std::string_view>> split_number(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || !std::isfinite(number)) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  return std::pair(number, unit);
}

template <std::size_t N>
std::optional<double> scaled(std::string_view text,
                             const std::array<std::pair<std::string_view, double>, N>& units) {
  const auto split = split_number(text);
  if (!split) return std::nullopt;
  for (const auto& [unit, factor] : units)
    if (split->second == unit) return split->first * factor;
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 10> kUnits = {{{"", 1},
                                                                                  {"B", 1},
                                                                                  {"kB", 1e3},
                                                                                  {"MB", 1e6},
                                                                                  {"GB", 1e9},
                                                                                  {"TB", 1e12},
                                                                                  {"KiB", 0x1p10},
                                                                                  {"MiB", 0x1p20},
                                                                                  {"GiB", 0x1p30},
                                                                                  {"TiB", 0x1p40}}};
  const auto amount = scaled(text, kUnits);
  if (!amount || *amount >= 0x1p63) return std::nullopt;
  return static_cast<std::uint64_t>(std::llround(*amount));
}

std::optional<double> parse_duration_s(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 4> kUnits = {
      {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}}};
  return scaled(text, kUnits);
}

std::optional<Quantity> parse_quantity(std::string_view text) {
  Quantity quantity;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), quantity.amount);
  if (error != std::errc()) return std::nullopt;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (!unit.starts_with(' ') || unit.size() < 2) return std::nullopt;
  quantity.unit = unit.substr(1);
  return quantity;
}

std::string format_bytes(std::uint64_t num_bytes) {
  const auto n = static_cast<double>(num_bytes);
  if (n >= 9.95e9) return fmt::format("{:.0f} GB", n / 1e9);
  if (n >= 9.995e8) return fmt::format("{:.1f} GB", n / 1e9);
  if (n >= 9.95e6) return fmt::format("{:.0f} MB", n / 1e6);
  if (n >= 9.995e5) return fmt::format("{:.1f} MB", n / 1e6);
  if (n >= 1e3) return fmt::format("{:.1f} kB", n / 1e3);
  return fmt::format("{} B", num_bytes);
}

std::string format_gib(std::uint64_t num_bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(num_bytes) / 0x1p30);
}

std::string format_count(double amount) {
  static constexpr std::array<std::pair<double, const char*>, 4> kScales = {
      {{1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}}};
  for (const auto& [scale, suffix] : kScales)
    if (std::abs(amount) >= scale) {
      const double value = amount / scale;
      return fmt::format("{:.{}f}{}", value, value < 10 ? 2 : 1, suffix);
    }
  return fmt::format("{:g}", amount);
}

std::string format_duration(double time_s) {
  const auto total = static_cast<std::int64_t>(std::llround(std::max(0.0, time_s)));
  if (total < 3600) return fmt::format("{}:{:02}", total / 60, total % 60);
  return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace takt
