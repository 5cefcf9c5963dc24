// What all executors do alike.
#include "core/exec/executor.h"

namespace takt {

void Executor::run(std::span<const Action> actions) {
  for (const Action& action : actions) run(action);
}

Snapshot Executor::snapshot() const {
  Snapshot snapshot;
  for (const PersistentValue& value : plan_.table.values()) {
    if (value.role != Role::kParameter && value.role != Role::kState) continue;
    std::vector<std::byte>& bytes = snapshot[value.name];
    bytes.resize(value.desc.num_bytes());
    read(value.name, bytes);
  }
  return snapshot;
}

}  // namespace takt
