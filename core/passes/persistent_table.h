// PersistentTable: everything that outlives a program, once. The contract between the programs of a step, those who
// write and read their storage, and checkpoints.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/string_map.h"
#include "core/graph/graph.h"

namespace takt {

// An input, parameter, state, accumulator or derived value, as a rank holds it.
struct PersistentValue {
  std::string name;
  Role role = Role::kParameter;
  TensorDesc desc;  // local
  Dims global_dims;
  Placement placement;
  std::optional<ParameterInfo> parameter;  // role parameter: how it starts and how it is exported
  std::string of;  // accumulator, state, derived: the parameter it belongs to, or empty
};

class PersistentTable {
 public:
  // Adds the inputs and persistent values of a parallelized program. Throws kBug, naming program and value, if another
  // program has one of them with another description or placement.
  void add(const Graph& local, std::string_view program);
  // Checks that the table has the inputs and persistent values of a program like that. Throws kBug as `add` does.
  void require(const Graph& local, std::string_view program) const;
  // Null if there is none.
  const PersistentValue* find(std::string_view name) const;
  // Throws kBug if there is none.
  const PersistentValue& at(std::string_view name) const;
  // In the order in which they were added.
  const std::vector<PersistentValue>& values() const { return values_; }

 private:
  std::vector<PersistentValue> values_;
  StringMap<std::size_t> index_;  // looked up in a step without allocating
};

}  // namespace takt
