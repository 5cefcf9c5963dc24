// Quantities with units, as people write and read them: "64MiB", "8192 tokens", "20m".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace takt {

// "64MiB", "1.5GB", "4096" (bytes); nullopt if it is not a size.
std::optional<std::uint64_t> parse_bytes(std::string_view text);
// "90s", "20m", "2h", "1d" in seconds; nullopt if it is not a duration.
std::optional<double> parse_duration_s(std::string_view text);
// "8192 tokens" -> {8192, "tokens"}; nullopt if it is not "whole number, space, word".
struct Quantity {
  std::int64_t amount = 0;
  std::string unit;
};
std::optional<Quantity> parse_quantity(std::string_view text);

std::string format_bytes(std::uint64_t num_bytes);  // "59 MB", powers of 1000
std::string format_gib(std::uint64_t num_bytes);    // "0.40 GiB"
std::string format_count(double amount);            // "4.2 M", "15.9 k"
std::string format_duration(double time_s);         // "12:53", "1:02:03"

// Levenshtein distance.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The entry of `known` closest to `word` if it is close enough to be a typing slip, else nullopt.
template <class Range>
std::optional<std::string> did_you_mean(std::string_view word, const Range& known) {
  std::optional<std::string> best;
  std::size_t best_distance = word.size() / 3 + 2;
  for (const auto& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = std::string(candidate);
    }
  }
  return best;
}

}  // namespace takt
