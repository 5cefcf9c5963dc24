// Setting: a key that a part of Takt reads, declared beside what reads it. Whoever offers keys to people (the job file)
// lists the declarations; the reader takes the values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace takt {

using SettingValue = std::variant<bool, std::int64_t, double, std::string>;

// Which numbers a setting accepts.
struct NumberRange {
  double low = 0;
  double high = 0;            // at or below low: no upper limit
  bool is_above_low = false;  // low itself is not accepted
  bool is_below_high = false;
  bool contains(double number) const;
  std::string text() const;
  bool operator==(const NumberRange&) const = default;
};
NumberRange at_least(double low);
NumberRange above(double low);
NumberRange from_to(double low, double high);
NumberRange from_to_below(double low, double high);

struct Setting {
  std::string name;                       // "model.layers"
  SettingValue fallback;                  // also says the type
  NumberRange range = {};                 // of numbers
  std::vector<std::string> choices = {};  // of texts; empty: free
  std::string unit = {};                  // "tokens"; empty: none
  std::string help = {};
  std::vector<std::string> aliases = {};  // what other programs call it
  // Another setting, and the values of it with which this one is read; empty: always.
  std::string kind_name = {};
  std::vector<std::string> kinds = {};
};

// The values of declared settings: what was given, else the fallback.
class Settings {
 public:
  // `declared` is borrowed. Values of other names are not read.
  Settings(const std::vector<Setting>& declared, std::map<std::string, SettingValue> given)
      : declared_(declared), given_(std::move(given)) {}

  // Each throws kBug for a setting that is not declared, or of another type.
  bool flag(std::string_view name) const;
  std::int64_t whole(std::string_view name) const;
  double number(std::string_view name) const;
  const std::string& text(std::string_view name) const;

  void set(const std::string& name, SettingValue value) { given_[name] = std::move(value); }

 private:
  const SettingValue& value(std::string_view name) const;

  const std::vector<Setting>& declared_;
  std::map<std::string, SettingValue> given_;
};

// Null if there is none of that name.
const Setting* find_setting(const std::vector<Setting>& settings, std::string_view name);

}  // namespace takt
