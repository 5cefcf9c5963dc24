// Making and printing axis names.
#include "core/base/axis.h"

#include <ostream>

#include "core/base/error.h"

namespace takt {

Axis::Axis(std::string_view name) {
  TAKT_ASSERT(name.size() <= kMaxLength, "axis '", name, "' is longer than ", kMaxLength, " characters");
  name.copy(text_.data(), name.size());
}

std::ostream& operator<<(std::ostream& out, const Axis& axis) {
  return out << axis.view();
}
std::string operator+(const std::string& text, const Axis& axis) {
  return text + axis.str();
}
std::string operator+(const Axis& axis, const char* text) {
  return axis.str() + text;
}

}  // namespace takt
