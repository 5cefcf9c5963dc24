// The kinds of keys that many members share: whole numbers, numbers, flags, texts, choices.
#include "launch/job_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
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
  const auto is_one_of = [&](std::string_view other, const std::vector<std::string>& values) {
    const JobKey* key = find_job_key(other);
    return values.empty() ||
           (key->applies_to(job) && std::any_of(values.begin(), values.end(), [&](const auto& v) {
              return key->get(job) == toml_text(std::string_view(v));
            }));
  };
  return is_one_of("model.kind", models) && is_one_of(kind_key, kinds);
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

namespace {

// Stores the value of a setting where it is what the setting takes.
bool set_setting(Job& job, const Setting& setting, const JobValue& value) {
  const auto store = [&](SettingValue stored) {
    job.settings[setting.name] = std::move(stored);
    return true;
  };
  const auto* whole = std::get_if<std::int64_t>(&value.data);
  const auto* real = std::get_if<double>(&value.data);
  if (std::holds_alternative<bool>(setting.fallback)) {
    const auto* flag = std::get_if<bool>(&value.data);
    return flag && store(*flag);
  }
  if (std::holds_alternative<std::int64_t>(setting.fallback))
    return whole && setting.range.contains(static_cast<double>(*whole)) && store(*whole);
  if (std::holds_alternative<double>(setting.fallback)) {
    const double number = real ? *real : whole ? static_cast<double>(*whole) : std::nan("");
    return setting.range.contains(number) && store(number);
  }
  const auto* text = std::get_if<std::string>(&value.data);
  const auto& choices = setting.choices;
  return text && (choices.empty() || std::find(choices.begin(), choices.end(), *text) != choices.end()) &&
         store(*text);
}

std::string setting_text(const Job& job, const Setting& setting) {
  const auto given = job.settings.find(setting.name);
  const SettingValue& value = given == job.settings.end() ? setting.fallback : given->second;
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return std::to_string(*whole);
  if (const auto* number = std::get_if<double>(&value)) return toml_text(*number);
  return toml_text(std::string_view(std::get<std::string>(value)));
}

}  // namespace

JobKey setting_key(const Setting& setting) {
  const std::array<const char*, std::variant_size_v<SettingValue>> types = {"true or false", "whole number",
                                                                            "number", "text"};
  const bool is_number = std::holds_alternative<std::int64_t>(setting.fallback) ||
                         std::holds_alternative<double>(setting.fallback);
  return {.name = setting.name,
          .type = types[setting.fallback.index()],
          .unit = setting.unit,
          .range = is_number ? setting.range.text() : "",
          .choices = setting.choices,
          .help = setting.help,
          .aliases = setting.aliases,
          .kind_key = setting.kind_name,
          .kinds = setting.kinds,
          .set = [setting](Job& job, const JobValue& value) { return set_setting(job, setting, value); },
          .get = [setting](const Job& job) { return setting_text(job, setting); }};
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
