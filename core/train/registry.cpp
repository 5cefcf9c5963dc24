// The list of tasks: a new one is its own file and one line here.
#include "core/base/error.h"
#include "core/train/job_task.h"
#include "core/train/language_task.h"
#include "core/train/regression_task.h"

namespace takt {

const std::vector<TaskKind>& task_registry() {
  static const std::vector<TaskKind> kinds = {
      language_task_kind(),
      regression_task_kind(),
  };
  return kinds;
}

const TaskKind& find_task(const std::string& kind) {
  std::string known;
  for (const TaskKind& task : task_registry()) {
    if (task.name == kind) return task;
    known += (known.empty() ? "" : ", ") + task.name;
  }
  fail(Fault::kConfig, "model.kind is '", kind, "'; known are ", known);
}

}  // namespace takt
