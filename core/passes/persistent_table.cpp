// Collecting persistent values and checking that programs agree on them.
#include "core/passes/persistent_table.h"

namespace takt {
namespace {

void require_same(const PersistentValue& known, const Value& value, std::string_view program) {
  TAKT_ASSERT(known.role == value.role && known.desc == value.desc &&
                  known.global_dims == value.global_dims && known.placement == value.placement,
              "program ", program, " has '", value.name, "' as ", name_of(value.role), " ", value.desc, " ",
              to_string(value.placement), ", another program as ", name_of(known.role), " ", known.desc, " ",
              to_string(known.placement));
}

}  // namespace

void PersistentTable::add(const Graph& local, std::string_view program) {
  for (const Value& value : local.values()) {
    if (value.role == Role::kIntermediate) continue;
    const auto [entry, is_new] = index_.try_emplace(value.name, values_.size());
    if (is_new) {
      values_.push_back({value.name, value.role, value.desc, value.global_dims, value.placement,
                         value.parameter, value.of});
      continue;
    }
    PersistentValue& known = values_[entry->second];
    require_same(known, value, program);
    if (known.of.empty()) known.of = value.of;
  }
}

void PersistentTable::require(const Graph& local, std::string_view program) const {
  for (const Value& value : local.values())
    if (value.role != Role::kIntermediate) require_same(at(value.name), value, program);
}

const PersistentValue* PersistentTable::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &values_[found->second];
}

const PersistentValue& PersistentTable::at(std::string_view name) const {
  const PersistentValue* value = find(name);
  TAKT_ASSERT(value != nullptr, "no persistent value '", name, "'");
  return *value;
}

}  // namespace takt
