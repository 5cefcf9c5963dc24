// The model's own files say what it is; the job file says with which keys it was made.
#include "launch/exported_model.h"

#include "launch/job_file.h"
#include "launch/job_task.h"

namespace takt {

ExportedModel open_exported(const std::filesystem::path& run_directory) {
  const std::filesystem::path folder = run_directory / "final";
  if (!std::filesystem::is_directory(folder))
    fail(Fault::kData, run_directory.string(),
         ": no final/ in this run directory\n  `takt train` writes it when a run is finished");
  ExportedModel model{
      .folder = folder, .job = load_saved_job(folder / "effective.toml").job, .task = nullptr};
  model.task = find_task(model.job.model.kind).load(settings_of(model.job), folder);
  require_same_model(folder, *model.task);
  return model;
}

}  // namespace takt
