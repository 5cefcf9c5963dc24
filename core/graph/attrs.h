// Attributes: the constants of a node, by name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/tensor.h"

namespace takt {

// Dims are special: when a graph is spread over a mesh, their extents become local like those of the node's output.
using Attr =
    std::variant<bool, std::int64_t, double, DType, Axis, std::string, AxisNames, Dims, std::vector<Dim>>;

// Copies share their entries until one of them is changed: the nodes of many layers have the same.
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
  const std::vector<Dim>& list(
      std::string_view name) const;  // of dimensions that are not those of one tensor

  // Sorted by name.
  const std::vector<Entry>& entries() const;
  // To change values; gives these attributes entries of their own.
  std::vector<Entry>& entries();
  bool operator==(const Attrs& other) const {
    return entries_ == other.entries_ || entries() == other.entries();
  }

 private:
  const Attr* find(std::string_view name) const;
  template <class T>
  const T& typed(std::string_view name) const;
  std::shared_ptr<std::vector<Entry>> entries_;  // few, looked up by comparing; null: none
};
std::string to_string(const Attrs& attrs);  // "{axis=heads, eps=1e-05}"

}  // namespace takt
