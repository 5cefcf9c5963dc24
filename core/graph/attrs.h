// Attributes: the constants of a node, by name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/tensor.h"

namespace takt {

// Dims are special: when a graph is spread over a mesh, their extents become local like those of the node's output.
using Attr = std::variant<bool, std::int64_t, double, DType, Axis, std::string, AxisNames, Dims>;

class Attrs {
 public:
  Attrs() = default;
  Attrs(std::initializer_list<std::pair<const std::string, Attr>> entries) : entries_(entries) {}

  void set(const std::string& name, Attr value) { entries_[name] = std::move(value); }
  bool has(const std::string& name) const { return entries_.contains(name); }
  // Each throws kBug if the attribute is missing or of another type.
  bool flag(const std::string& name) const;  // false if missing
  std::int64_t integer(const std::string& name) const;
  double number(const std::string& name) const;
  const std::string& text(const std::string& name) const;
  DType dtype(const std::string& name) const;
  const Axis& axis(const std::string& name) const;
  const AxisNames& axes(const std::string& name) const;
  const Dims& dims(const std::string& name) const;

  const std::map<std::string, Attr>& entries() const { return entries_; }
  std::map<std::string, Attr>& entries() { return entries_; }
  bool operator==(const Attrs&) const = default;

 private:
  std::map<std::string, Attr> entries_;
};
std::string to_string(const Attrs& attrs);  // "{axis=heads, eps=1e-05}"

}  // namespace takt
