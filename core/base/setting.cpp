// A setting that was not given has its fallback, so that a reader never asks whether it is there.
#include "core/base/setting.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace takt {
namespace {

template <class T>
const T& as(const SettingValue& value, std::string_view name) {
  const T* found = std::get_if<T>(&value);
  TAKT_ASSERT(found != nullptr, "setting '", name, "' is read as another type than it is declared with");
  return *found;
}

}  // namespace

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

const Setting* find_setting(const std::vector<Setting>& settings, std::string_view name) {
  const auto found =
      std::find_if(settings.begin(), settings.end(), [&](const Setting& s) { return s.name == name; });
  return found == settings.end() ? nullptr : &*found;
}

const SettingValue& Settings::value(std::string_view name) const {
  const Setting* setting = find_setting(declared_, name);
  TAKT_ASSERT(setting != nullptr, "setting '", name, "' is not declared");
  const auto given = given_.find(setting->name);
  return given == given_.end() ? setting->fallback : given->second;
}

bool Settings::flag(std::string_view name) const {
  return as<bool>(value(name), name);
}
std::int64_t Settings::whole(std::string_view name) const {
  return as<std::int64_t>(value(name), name);
}
double Settings::number(std::string_view name) const {
  return as<double>(value(name), name);
}
const std::string& Settings::text(std::string_view name) const {
  return as<std::string>(value(name), name);
}

}  // namespace takt
