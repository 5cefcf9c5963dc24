// Fail before step 1: the checks are the stages themselves, run on every rank, agreed on once.
#include "launch/prepare_run.h"

#include <filesystem>

#include "collectives/share.h"
#include "launch/complete_job.h"
#include "launch/cpu_threads.h"
#include "launch/plan_text.h"
#include "launch/resolve_mesh.h"
#include "launch/version.h"

namespace takt {
namespace {

void open_data(PreparedRun& run) {
  // With a tokenizer its tokens are all there are; the model's vocabulary may be larger.
  const std::int64_t vocab = run.tokenizer ? run.tokenizer->vocab_size() : run.job.model.vocab;
  run.train = TokenDataset::open(run.job.data.train, vocab);
  run.train->require_samples(run.job.model.seq);
  if (run.job.data.valid.empty()) return;
  run.valid = TokenDataset::open(run.job.data.valid, vocab);
  run.valid->require_samples(run.job.model.seq);
}

void require_exists(const std::string& what, const std::string& path) {
  if (!path.empty() && !std::filesystem::exists(path))
    fail(Fault::kData, what, ": ", path, " does not exist");
}

// Everything that decides what a rank computes. A rank with another environment, file or binary would train
// on something else without a sign.
std::string fingerprint(const PreparedRun& run) {
  return concat(version(), " ", build_summary(), " ", effective_file(run.loaded), run.train->num_tokens(),
                " ", run.valid ? run.valid->num_tokens() : 0, " ", run.job.model.vocab);
}

PreparedRun prepare(const RunOptions& options, const std::vector<std::string>& environment, World& world) {
  return agree(world.comm(), [&] {
    PreparedRun run;
    run.loaded = load_job(options.job_file, overrides_of(options, environment));
    run.job = run.loaded.job;
    // Sooner than anything that only sees that nobody moves: this wait knows which host did not come.
    world.set_peer_timeout(0.9 * run.job.guard.hang_timeout_s);
    if (options.dry_run) return run;
    run.tokenizer = complete_job(run.job);
    run.mesh = resolve_mesh(run.job.mesh, world.size(), run.job.model);
    run.batch = plan_batch(run.job, run.mesh);
    run.plan = compile_step(run.job, run.mesh, cpu_threads(run.job.threads, world.ranks_on_host()));
    require_memory(run.plan, run.batch, world.ranks_on_host());
    require_exists("model.init", run.job.model.init);
    if (options.resume != "auto" && options.resume != "never") require_exists("--resume", options.resume);
    open_data(run);
    return run;
  });
}

}  // namespace

PreparedRun prepare_run(const RunOptions& options, const std::vector<std::string>& environment,
                        World& world) {
  PreparedRun run = prepare(options, environment, world);
  if (!options.dry_run) require_same(world.comm(), fingerprint(run), "the job");
  return run;
}

}  // namespace takt
