// Applies the fields of a file, then the overrides in order of precedence, to a default Job through the schema.
#include "launch/job_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <functional>
#include <optional>
#include <system_error>

#include "core/base/error.h"
#include "core/base/units.h"
#include "launch/job_toml.h"
#include "launch/schema.h"

namespace takt {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 20;

// Where a group of fields comes from: how its errors are thrown, and what the effective file says of them.
struct Origin {
  std::function<void(const SourceSpan&, const std::string& message, const std::string& note)> fail;
  std::function<std::string(const SourceSpan&)> name;
  int precedence = 0;  // see LoadedJob
};

std::string in_quotes(std::string_view name) {
  return '\'' + printable(name) + '\'';
}

std::string hint_for(std::string_view unknown) {
  const auto suggestion = suggest_job_key(unknown);
  return suggestion ? "did you mean " + in_quotes(*suggestion) + '?' : "'takt keys' lists all keys";
}

std::string choice_hint(const JobKey& key, const JobValue& value) {
  const auto* text = std::get_if<std::string>(&value.data);
  const auto choice = text ? did_you_mean(*text, key.choices) : std::nullopt;
  return choice ? "did you mean " + toml_text(std::string_view(*choice)) + '?' : "";
}

void apply_value(LoadedJob& loaded, const JobKey& key, const JobField& field, const Origin& origin) {
  const JobValue& value = field.value;
  if (!key.set(loaded.job, value))
    origin.fail(value.at, fmt::format("{}: wanted {}, got {}", key.name, key.wanted(), describe(value)),
                choice_hint(key, value));
  loaded.origins[key.name] = origin.name(field.name_at);
  loaded.precedence[key.name] = origin.precedence;
}

// Whether it is a key of earlier versions. Its one value says nothing.
bool is_retired(const std::string& name, const JobField& field, const Origin& origin) {
  for (const RetiredKey& key : retired_job_keys()) {
    if (key.name != name) continue;
    const auto* text = std::get_if<std::string>(&field.value.data);
    if (!text || *text != key.value)
      origin.fail(field.value.at,
                  fmt::format("{}: wanted {}, the only one there is, got {}", name,
                              toml_text(std::string_view(key.value)), describe(field.value)),
                  "this key may be left out");
    return true;
  }
  return false;
}

// `table` is "optimizer." or, at the top level, empty.
void apply_fields(LoadedJob& loaded, const std::string& table, const std::vector<JobField>& fields,
                  const Origin& origin) {
  for (const JobField& field : fields) {
    const std::string name = table + field.name;
    if (const JobKey* key = find_job_key(name)) {
      apply_value(loaded, *key, field, origin);
    } else if (is_retired(name, field, origin)) {
      continue;
    } else if (!is_job_table(name)) {
      origin.fail(field.name_at, "unknown key " + in_quotes(name), hint_for(name));
    } else if (const auto* nested = std::get_if<std::vector<JobField>>(&field.value.data)) {
      apply_fields(loaded, name + '.', *nested, origin);
    } else {
      origin.fail(field.value.at, fmt::format("{}: wanted a table, got {}", name, describe(field.value)), "");
    }
  }
}

// A bare word stands for a text where the key takes that text and not what TOML makes of the word.
JobValue read_override(std::string_view key_name, const std::string& text) {
  const JobValue bare{.data = text, .at = {}};
  const std::optional<JobValue> value = read_toml_value(text);
  if (!value) return bare;
  const JobKey* key = find_job_key(key_name);
  Job scratch;
  return key && !key->set(scratch, *value) && key->set(scratch, bare) ? bare : *value;
}

// `given` is the override as it was written, `name` what the effective file says.
void apply_override(LoadedJob& loaded, const std::string& key, const std::string& text,
                    const std::string& given, const std::string& name, int precedence) {
  if (!read_toml_value(toml_text(std::string_view(text))))
    fail(Fault::kConfig, printable(given), ": not UTF-8 text");
  const Origin origin = {.fail =
                             [&](const SourceSpan&, const std::string& message, const std::string& note) {
                               fail(Fault::kConfig, printable(given), ": ", message,
                                    note.empty() ? "" : "\n  ", note);
                             },
                         .name = [&](const SourceSpan&) { return name; },
                         .precedence = precedence};
  apply_fields(loaded, "", {{.name = key, .name_at = {}, .value = read_override(key, text)}}, origin);
}

// Every name a variable can have, for keys and for tables: {"TAKT_OPTIMIZER_LR", "optimizer.lr"}.
std::map<std::string, std::string> environment_names() {
  std::map<std::string, std::string> names;
  for (const JobKey& key : job_keys()) {
    for (std::size_t dot = key.name.find('.'); dot != std::string::npos; dot = key.name.find('.', dot + 1))
      names[environment_name(key.name.substr(0, dot))] = key.name.substr(0, dot);
    names[environment_name(key.name)] = key.name;
  }
  return names;
}

// Whether the variable starts as one of ours does: TAKT_OPTIMIZER_..., TAKT_SEED_...
bool has_known_first_part(const std::string& variable, const std::map<std::string, std::string>& names) {
  const std::string first = variable.substr(0, variable.find('_', std::string_view("TAKT_").size()));
  return names.contains(first);
}

void apply_environment(LoadedJob& loaded, const std::vector<std::string>& environment) {
  const auto names = environment_names();
  for (const std::string& entry : environment) {
    const std::size_t equals = entry.find('=');
    const std::string variable = entry.substr(0, equals);
    if (equals == std::string::npos || !variable.starts_with("TAKT_")) continue;
    if (const auto found = names.find(variable); found != names.end()) {
      apply_override(loaded, found->second, entry.substr(equals + 1), "environment " + entry,
                     "env " + variable, 1);
      continue;
    }
    if (!has_known_first_part(variable, names)) continue;  // another program's, or not of the job
    std::vector<std::string> known;
    for (const auto& [name, key] : names) known.push_back(name);
    const auto suggestion = did_you_mean(variable, known);
    fail(Fault::kConfig, "environment ", printable(variable),
         ": no key of the job file has this variable\n  ",
         suggestion ? "did you mean " + *suggestion + '?' : "'takt keys' lists all keys");
  }
}

void apply_sets(LoadedJob& loaded, const std::vector<std::string>& sets) {
  for (const std::string& set : sets) {
    const std::size_t equals = set.find('=');
    if (equals == std::string::npos || equals == 0)
      fail(Fault::kUsage, "--set ", printable(set), ": wanted KEY=VALUE\n  such as --set optimizer.lr=1e-3");
    apply_override(loaded, set.substr(0, equals), set.substr(equals + 1), "--set " + set, "--set", 2);
  }
}

void drop(LoadedJob& loaded, const JobKey& key) {
  key.set(loaded.job, read_toml_value(key.get(Job{})).value());
  loaded.origins.erase(key.name);
}

// A key that nothing reads is a mistake, unless its kind was overruled by a later source.
void refuse_keys_of_other_kinds(LoadedJob& loaded) {
  for (const JobKey& key : job_keys()) {
    if (!loaded.origins.contains(key.name) || key.applies_to(loaded.job)) continue;
    const auto kind = loaded.precedence.find(key.kind_key);
    if (kind != loaded.precedence.end() && kind->second > loaded.precedence.at(key.name)) {
      drop(loaded, key);
      continue;
    }
    std::string kinds;
    for (const std::string& name : key.kinds)
      kinds += (kinds.empty() ? "" : " or ") + toml_text(std::string_view(name));
    fail(Fault::kConfig, loaded.origins.at(key.name), ": ", key.name, " is for ", key.kind_key, " ", kinds,
         ", this job has ", find_job_key(key.kind_key)->get(loaded.job),
         "\n  take it out: nothing would read it");
  }
}

std::string read_file(const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& why) {
    fail(Fault::kConfig, "job file ", path.string(), " cannot be read: ", why);
  };
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) refuse("it is a directory");
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(std::generic_category().message(errno));
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) refuse("the operating system refused");
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMostBytes) refuse("it is larger than 1 MiB");
  return text;
}

LoadedJob parse_file(std::string_view text, std::string_view name) {
  LoadedJob loaded{.job = {}, .origins = {}, .precedence = {}, .text = std::string(text)};
  const SourceText source{.name = std::string(name), .text = loaded.text};
  const std::string file_name = std::filesystem::path(name).filename().string();
  const Origin file = {
      .fail = [&](const SourceSpan& at, const std::string& message,
                  const std::string& note) { fail_at(source, at, message, note); },
      .name = [&](const SourceSpan& at) { return fmt::format("{}:{}", printable(file_name), at.line); }};
  apply_fields(loaded, "", read_toml(source), file);
  return loaded;
}

}  // namespace

LoadedJob load_job(const std::filesystem::path& path, const JobOverrides& overrides) {
  return parse_job(read_file(path), path.string(), overrides);
}

LoadedJob load_saved_job(const std::filesystem::path& path) {
  return parse_saved_job(read_file(path), path.string());
}

LoadedJob parse_saved_job(std::string_view text, std::string_view name) {
  LoadedJob loaded = parse_file(text, name);
  for (const JobKey& key : job_keys())
    if (!key.applies_to(loaded.job)) drop(loaded, key);
  return loaded;
}

LoadedJob parse_job(std::string_view text, std::string_view name, const JobOverrides& overrides) {
  LoadedJob loaded = parse_file(text, name);
  apply_environment(loaded, overrides.environment);
  apply_sets(loaded, overrides.sets);
  for (const NamedFlag& flag : overrides.flags)
    apply_override(loaded, flag.key, flag.value, flag.flag + ' ' + flag.value, flag.flag, 3);
  refuse_keys_of_other_kinds(loaded);
  return loaded;
}

std::string effective_file(const LoadedJob& loaded) {
  std::string text;
  std::string section;
  for (const JobKey& key : job_keys()) {
    if (!key.applies_to(loaded.job)) continue;
    if (key.section() != section) {
      section = key.section();
      text += fmt::format("\n[{}]\n", section);
    }
    const auto origin = loaded.origins.find(key.name);
    const std::string name = section.empty() ? key.name : key.name.substr(section.size() + 1);
    text += fmt::format("{:<40}  # {}\n", name + " = " + key.get(loaded.job),
                        origin == loaded.origins.end() ? "default" : origin->second);
  }
  return text;
}

}  // namespace takt
