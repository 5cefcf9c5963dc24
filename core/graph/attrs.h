// Attributes: the constants of a node, by name.
#pragma once

#include <cstdint>
#include <initializer_list>
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
  using Entry = std::pair<std::string, Attr>;
  Attrs() = default;
  Attrs(std::initializer_list<Entry> entries) {
    for (const auto& [name, value] : entries) set(name, value);
  }

  void set(std::string_view name, Attr value);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  // Each throws kBug if the attribute is missing or of another type.
  bool flag(std::string_view name) const;  // false if missing
  std::int64_t integer(std::string_view name) const;
  double number(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  DType dtype(std::string_view name) const;
  const Axis& axis(std::string_view name) const;
  const AxisNames& axes(std::string_view name) const;
  const Dims& dims(std::string_view name) const;

  // Sorted by name.
  const std::vector<Entry>& entries() const { return entries_; }
  std::vector<Entry>& entries() { return entries_; }
  bool operator==(const Attrs&) const = default;

 private:
  const Attr* find(std::string_view name) const;
  template <class T>
  const T& typed(std::string_view name) const;
  std::vector<Entry> entries_;  // few: copied often, looked up by comparing
};
std::string to_string(const Attrs& attrs);  // "{axis=heads, eps=1e-05}"

}  // namespace takt
