// JobTask: a task that a job file can ask for. Beside what a step computes it knows its files: the data it reads and what
// it leaves beside the weights.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "core/base/setting.h"
#include "core/train/task.h"

namespace takt {

// data.train and data.valid.
struct DataFiles {
  std::vector<std::string> train;
  std::vector<std::string> valid;
};

struct Datasets {
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> valid;  // null where no file is named
};

class JobTask : public Task {
 public:
  // For the console: "gpt (llama)".
  virtual std::string describe() const = 0;
  // Opens the files that the task was made with. Every rank calls it, outside of agree(), and reads a slice. Throws kData
  // or kConfig, the same on all ranks.
  virtual Datasets open_data(Communicator& comm) = 0;
  // Throws kData or kConfig where the config.json of weights that others wrote describes another model. `source` names
  // the file in messages.
  virtual void require_same_model(const nlohmann::json& config, const std::string& source) const = 0;
  // Writes what makes exported weights usable: config.json and what belongs to it. Root only.
  virtual void write_model_files(const std::filesystem::path& folder) const = 0;

  // For models of arrays: new inputs, a row a sample, and what build_prediction made of them, written in the unit of the
  // training data. Root only. Others throw kUsage.
  virtual std::unique_ptr<Dataset> open_inputs(const std::filesystem::path& file) const;
  virtual void write_predictions(const std::filesystem::path& file, std::vector<float> rows) const;
};

// Compares the config.json beside the weights that model.init names with the task's model. False if there is none: then
// nothing says what the shapes of the weights do not show. Throws as JobTask::require_same_model.
bool require_same_model(const std::filesystem::path& file_or_directory, const JobTask& task);

// One line of the registry.
struct TaskKind {
  std::string name;                           // model.kind in the job file
  const std::vector<Setting>& (*settings)();  // the keys of [model] and [data] it reads
  // From the job file; looks into files only as far as the model's extents need it. Throws kConfig or kData.
  std::unique_ptr<JobTask> (*make)(const Settings& settings, const DataFiles& files);
  // From the folder of an exported model, without any data. The same errors.
  std::unique_ptr<JobTask> (*load)(Settings settings, const std::filesystem::path& folder);
  // What must be the same for a run to go on from a checkpoint, beside what the shapes of its tensors show. Names are
  // those of ComparedFacts.
  std::map<std::string, std::string> (*facts)(const Settings& settings);
};

// All kinds, in alphabetical order.
const std::vector<TaskKind>& task_registry();
const TaskKind& find_task(const std::string& kind);  // kConfig with the known names

}  // namespace takt
