// Fail before step 1: the checks are the stages themselves, run on every rank, agreed on once.
#include "launch/prepare_run.h"

#include "launch/complete_job.h"
#include "launch/cpu_threads.h"
#include "launch/plan_text.h"
#include "launch/resolve_mesh.h"

namespace takt {
namespace {

void open_data(PreparedRun& run) {
  run.train = TokenDataset::open(run.job.data.train, run.job.model.vocab);
  run.train->require_samples(run.job.model.seq);
  if (run.job.data.valid.empty()) return;
  run.valid = TokenDataset::open(run.job.data.valid, run.job.model.vocab);
  run.valid->require_samples(run.job.model.seq);
}

}  // namespace

PreparedRun prepare_run(const RunOptions& options, const std::vector<std::string>& environment,
                        World& world) {
  return agree(world.comm(), [&] {
    PreparedRun run;
    run.loaded = load_job(options.job_file, overrides_of(options, environment));
    run.job = run.loaded.job;
    if (options.dry_run) return run;
    run.tokenizer = complete_job(run.job);
    run.mesh = resolve_mesh(run.job.mesh, world.size(), run.job.model);
    run.batch = plan_batch(run.job, run.mesh);
    run.plan = compile_step(run.job, run.mesh, cpu_threads(run.job.threads, world.ranks_on_host()));
    require_memory(run.plan, run.batch, world.ranks_on_host());
    open_data(run);
    return run;
  });
}

}  // namespace takt
