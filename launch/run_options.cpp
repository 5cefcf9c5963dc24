// One definition of the flags that name and change a job.
#include "launch/run_options.h"

#include <CLI/CLI.hpp>

namespace takt {

void add_job_options(CLI::App& app, RunOptions& options) {
  app.add_option("JOB", options.job_file, "The job file")->required();
  app.add_option("--set", options.sets, "Change one key: --set optimizer.lr=1e-3. May be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);  // else it would take JOB, where that comes behind
  app.add_option("--steps", options.steps, "Optimizer steps, instead of train.steps")->type_name("N");
  app.add_option(
         "--ranks-per-host", options.ranks_per_host,
         "Ranks that share a host's memory and cores. plan: as many as fit; train: as the launcher placed "
         "them")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app.footer("'takt keys' lists every key of the job file.");
}

void add_run_options(CLI::App& app, RunOptions& options) {
  add_job_options(app, options);
  app.add_option("--out", options.out, "The run directory, instead of runs/NAME.TIME")->type_name("DIR");
  app.add_option("--resume", options.resume,
                 "auto (go on where DIR has a checkpoint), never, or a checkpoint or run directory")
      ->type_name("FROM")
      ->capture_default_str();
  app.add_flag("--dry-run", options.dry_run,
               "Print the effective job file with the origin of each value, and stop");
}

JobOverrides overrides_of(const RunOptions& options, const std::vector<std::string>& environment) {
  JobOverrides overrides{.environment = environment, .sets = options.sets};
  if (options.steps)
    overrides.flags.push_back(
        {.flag = "--steps", .key = "train.steps", .value = std::to_string(*options.steps)});
  return overrides;
}

}  // namespace takt
