// The kinds of keys that many members share: whole numbers, numbers, flags, texts, choices.
#include "launch/job_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "launch/schema.h"

namespace takt {

std::string JobKey::section() const {
  const std::size_t dot = name.find('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

std::string JobKey::wanted() const {
  if (!choices.empty()) {
    std::string text;
    for (const std::string& choice : choices) text += (text.empty() ? "\"" : ", \"") + choice + '"';
    return (choices.size() > 1 ? "one of " : "") + text;
  }
  std::string text = (type.starts_with('"') || type.starts_with("true") ? "" : "a ") + type;
  if (!unit.empty()) text += " of " + unit;
  if (!range.empty()) text += ", " + range;
  return text;
}

bool JobKey::applies_to(const Job& job) const {
  const JobKey* key = kind_key.empty() ? nullptr : find_job_key(kind_key);
  return !key || std::any_of(kinds.begin(), kinds.end(), [&](const std::string& kind) {
    return key->get(job) == toml_text(std::string_view(kind));
  });
}

JobKey JobKey::only_for(std::string key, std::vector<std::string> values) && {
  kind_key = std::move(key);
  kinds = std::move(values);
  return std::move(*this);
}

JobKey JobKey::also_known_as(std::vector<std::string> names) && {
  aliases = std::move(names);
  return std::move(*this);
}

bool NumberRange::contains(double number) const {
  if (!std::isfinite(number)) return false;
  if (is_above_low ? number <= low : number < low) return false;
  return high <= low || (is_below_high ? number < high : number <= high);
}

std::string NumberRange::text() const {
  if (high > low && is_below_high) return fmt::format("at least {} and below {}", low, high);
  if (high > low) return fmt::format("from {} to {}", low, high);
  return fmt::format("{} {}", is_above_low ? "above" : "at least", low);
}

NumberRange at_least(double low) {
  return {.low = low};
}
NumberRange above(double low) {
  return {.low = low, .is_above_low = true};
}
NumberRange from_to(double low, double high) {
  return {.low = low, .high = high};
}
NumberRange from_to_below(double low, double high) {
  return {.low = low, .high = high, .is_below_high = true};
}

JobKey whole_key(std::string name, Member<std::int64_t> member, NumberRange range, std::string unit,
                 std::string help) {
  return {.name = std::move(name),
          .type = "whole number",
          .unit = std::move(unit),
          .range = range.text(),
          .help = std::move(help),
          .set =
              [member, range](Job& job, const JobValue& value) {
                const auto* number = std::get_if<std::int64_t>(&value.data);
                if (!number || !range.contains(static_cast<double>(*number))) return false;
                member(job) = *number;
                return true;
              },
          .get = [member](Job job) { return std::to_string(member(job)); }};
}

JobKey number_key(std::string name, Member<double> member, NumberRange range, std::string unit,
                  std::string help) {
  return {.name = std::move(name),
          .type = "number",
          .unit = std::move(unit),
          .range = range.text(),
          .help = std::move(help),
          .set =
              [member, range](Job& job, const JobValue& value) {
                double number = std::nan("");
                if (const auto* real = std::get_if<double>(&value.data)) number = *real;
                if (const auto* whole = std::get_if<std::int64_t>(&value.data))
                  number = static_cast<double>(*whole);
                if (!range.contains(number)) return false;
                member(job) = number;
                return true;
              },
          .get = [member](Job job) { return toml_text(member(job)); }};
}

JobKey flag_key(std::string name, Member<bool> member, std::string help) {
  return {.name = std::move(name),
          .type = "true or false",
          .help = std::move(help),
          .set =
              [member](Job& job, const JobValue& value) {
                const auto* flag = std::get_if<bool>(&value.data);
                if (flag) member(job) = *flag;
                return flag != nullptr;
              },
          .get = [member](Job job) { return std::string(member(job) ? "true" : "false"); }};
}

JobKey text_key(std::string name, Member<std::string> member, std::string help) {
  return {.name = std::move(name),
          .type = "text",
          .help = std::move(help),
          .set =
              [member](Job& job, const JobValue& value) {
                const auto* text = std::get_if<std::string>(&value.data);
                if (text) member(job) = *text;
                return text != nullptr;
              },
          .get = [member](Job job) { return toml_text(std::string_view(member(job))); }};
}

JobKey texts_key(std::string name, Member<std::vector<std::string>> member, std::string help) {
  return {.name = std::move(name),
          .type = "list of texts",
          .help = std::move(help),
          .set =
              [member](Job& job, const JobValue& value) {
                std::vector<std::string> texts;
                if (const auto* one = std::get_if<std::string>(&value.data))
                  texts.push_back(*one);
                else if (const auto* list = std::get_if<std::vector<JobValue>>(&value.data))
                  for (const JobValue& item : *list) {
                    const auto* text = std::get_if<std::string>(&item.data);
                    if (!text) return false;
                    texts.push_back(*text);
                  }
                else
                  return false;
                member(job) = std::move(texts);
                return true;
              },
          .get = [member](Job job) { return toml_text(member(job)); }};
}

JobKey choice_key(std::string name, Member<std::string> member, std::vector<std::string> choices,
                  std::string help) {
  JobKey key = text_key(std::move(name), member, std::move(help));
  key.choices = choices;
  key.set = [member, choices = std::move(choices)](Job& job, const JobValue& value) {
    const auto* text = std::get_if<std::string>(&value.data);
    if (!text || std::find(choices.begin(), choices.end(), *text) == choices.end()) return false;
    member(job) = *text;
    return true;
  };
  return key;
}

}  // namespace takt
