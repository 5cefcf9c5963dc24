// Typed access to attributes and their printed form.
#include "core/graph/attrs.h"

#include "core/base/error.h"

namespace takt {
namespace {

template <class T>
const T& typed(const std::map<std::string, Attr>& entries, const std::string& name) {
  const auto entry = entries.find(name);
  TAKT_ASSERT(entry != entries.end(), "attribute '", name, "' is missing");
  const T* value = std::get_if<T>(&entry->second);
  TAKT_ASSERT(value != nullptr, "attribute '", name, "' has another type");
  return *value;
}

struct Printer {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return concat(value); }
  std::string operator()(const std::string& value) const { return value; }
  std::string operator()(DType value) const { return std::string(name_of(value)); }
  std::string operator()(const Axis& value) const { return value.str(); }
  std::string operator()(const Dims& value) const { return to_string(value); }
  std::string operator()(const AxisNames& value) const {
    std::string text = "(";
    for (const Axis& axis : value) text += (text.size() > 1 ? " " : "") + axis.str();
    return text + ")";
  }
};

}  // namespace

bool Attrs::flag(const std::string& name) const {
  return has(name) && typed<bool>(entries_, name);
}
std::int64_t Attrs::integer(const std::string& name) const {
  return typed<std::int64_t>(entries_, name);
}
double Attrs::number(const std::string& name) const {
  return typed<double>(entries_, name);
}
const std::string& Attrs::text(const std::string& name) const {
  return typed<std::string>(entries_, name);
}
DType Attrs::dtype(const std::string& name) const {
  return typed<DType>(entries_, name);
}
const Axis& Attrs::axis(const std::string& name) const {
  return typed<Axis>(entries_, name);
}
const AxisNames& Attrs::axes(const std::string& name) const {
  return typed<AxisNames>(entries_, name);
}
const Dims& Attrs::dims(const std::string& name) const {
  return typed<Dims>(entries_, name);
}

std::string to_string(const Attrs& attrs) {
  std::string text = "{";
  for (const auto& [name, value] : attrs.entries())
    text += (text.size() > 1 ? ", " : "") + name + "=" + std::visit(Printer{}, value);
  return text + "}";
}

}  // namespace takt
