// Typed access to attributes and their printed form.
#include "core/graph/attrs.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"

namespace takt {
namespace {

struct Printer {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return concat(value); }
  std::string operator()(const std::string& value) const { return value; }
  std::string operator()(DType value) const { return std::string(name_of(value)); }
  std::string operator()(const Axis& value) const { return value.str(); }
  std::string operator()(const Dims& value) const { return to_string(value); }
  std::string operator()(const std::vector<Dim>& value) const {
    std::string text = "(";
    for (const Dim& dim : value)
      text += (text.size() > 1 ? " " : "") + dim.axis.str() + "=" + std::to_string(dim.extent);
    return text + ")";
  }
  std::string operator()(const AxisNames& value) const {
    std::string text = "(";
    for (const Axis& axis : value) text += (text.size() > 1 ? " " : "") + axis.str();
    return text + ")";
  }
};

}  // namespace

const std::vector<Attrs::Entry>& Attrs::entries() const {
  static const std::vector<Entry> none;
  return entries_ ? *entries_ : none;
}

std::vector<Attrs::Entry>& Attrs::entries() {
  if (entries_.use_count() != 1)
    entries_ = std::make_shared<std::vector<Entry>>(std::as_const(*this).entries());
  return *entries_;
}

void Attrs::set(std::string_view name, Attr value) {
  std::vector<Entry>& own = entries();
  const auto place = std::lower_bound(own.begin(), own.end(), name,
                                      [](const Entry& entry, std::string_view n) { return entry.first < n; });
  if (place != own.end() && place->first == name)
    place->second = std::move(value);
  else
    own.emplace(place, name, std::move(value));
}

const Attr* Attrs::find(std::string_view name) const {
  for (const Entry& entry : entries())
    if (entry.first == name) return &entry.second;
  return nullptr;
}

template <class T>
const T& Attrs::typed(std::string_view name) const {
  const Attr* attr = find(name);
  TAKT_ASSERT(attr != nullptr, "attribute '", name, "' is missing");
  const T* value = std::get_if<T>(attr);
  TAKT_ASSERT(value != nullptr, "attribute '", name, "' has another type");
  return *value;
}

bool Attrs::flag(std::string_view name) const {
  return has(name) && typed<bool>(name);
}
std::int64_t Attrs::integer(std::string_view name) const {
  return typed<std::int64_t>(name);
}
double Attrs::number(std::string_view name) const {
  return typed<double>(name);
}
const std::string& Attrs::text(std::string_view name) const {
  return typed<std::string>(name);
}
DType Attrs::dtype(std::string_view name) const {
  return typed<DType>(name);
}
const Axis& Attrs::axis(std::string_view name) const {
  return typed<Axis>(name);
}
const AxisNames& Attrs::axes(std::string_view name) const {
  return typed<AxisNames>(name);
}
const Dims& Attrs::dims(std::string_view name) const {
  return typed<Dims>(name);
}

const std::vector<Dim>& Attrs::list(std::string_view name) const {
  return typed<std::vector<Dim>>(name);
}

std::string to_string(const Attrs& attrs) {
  std::string text = "{";
  for (const auto& [name, value] : attrs.entries())
    text += (text.size() > 1 ? ", " : "") + name + "=" + std::visit(Printer{}, value);
  return text + "}";
}

}  // namespace takt
