// Fail before step 1: the checks are the stages themselves, run on every rank, agreed on once.
#include "launch/prepare_run.h"

#include <filesystem>

#include "collectives/share.h"
#include "core/state/pretrained.h"
#include "launch/compile_for_host.h"
#include "launch/complete_job.h"
#include "launch/plan_text.h"
#include "launch/resolve_mesh.h"
#include "launch/stop_signal.h"
#include "launch/version.h"

namespace takt {
namespace {

// Every rank reads a slice of the data. Outside of the agree() below, since it agrees itself.
void open_data(PreparedRun& run, Communicator& comm) {
  // With a tokenizer its tokens are all there are; the model's vocabulary may be larger.
  const std::int64_t vocab = run.tokenizer ? run.tokenizer->vocab_size() : run.job.model.vocab;
  run.train = TokenDataset::open(run.job.data.train, vocab, comm);
  if (!run.job.data.valid.empty()) run.valid = TokenDataset::open(run.job.data.valid, vocab, comm);
  agree(comm, [&] {
    stop_if_requested();
    run.train->require_samples(run.job.model.seq);
    if (run.valid) run.valid->require_samples(run.job.model.seq);
  });
}

void require_exists(const std::string& what, const std::string& path) {
  if (!path.empty() && !std::filesystem::exists(path))
    fail(Fault::kData, what, ": ", path, " does not exist");
}

void check_init(PreparedRun& run) {
  const std::string& init = run.job.model.init;
  if (init.empty()) return;
  require_exists("model.init", init);
  if (!require_same_model(init, run.job.model))
    run.notices.push_back(concat("warning: no config.json lies beside model.init ", init,
                                 "\n  the head split, rotary base, norm epsilon and activation of these "
                                 "weights are taken from the job file unseen"));
}

void compile(PreparedRun& run, const RunOptions& options, const World& world) {
  const int placed = world.ranks_on_host();
  if (options.ranks_per_host && placed > *options.ranks_per_host)
    fail(Fault::kUsage, "--ranks-per-host ", *options.ranks_per_host, ": the launcher placed ", placed,
         " ranks on ", world.host(), "\n  Open MPI: mpirun --map-by ppr:", *options.ranks_per_host,
         ":node; Slurm: srun --ntasks-per-node=", *options.ranks_per_host);
  const HostLimits host = limits_of_this_host();
  const auto stop_between_passes = [](std::string_view, std::string_view, const Graph&) {
    stop_if_requested();
  };
  HostedStep step =
      compile_for_host(run.job, run.mesh, options.ranks_per_host.value_or(placed), host, stop_between_passes);
  require_memory(step.plan, run.batch, step.ranks_on_host, host.memory_bytes);
  run.plan = std::move(step.plan);
  run.memory_limit_bytes = host.memory_bytes / static_cast<std::uint64_t>(step.ranks_on_host);
}

// Everything that decides what a rank computes. A rank with another environment, file or binary would train
// on something else without a sign.
std::string fingerprint(const PreparedRun& run) {
  return concat(version(), " ", build_summary(), " ", effective_file(run.loaded), run.job.model.vocab,
                run.backend == Backend::kCuda ? " on GPUs" : "");
}

PreparedRun prepare(const RunOptions& options, const std::vector<std::string>& environment, World& world) {
  return agree(world.comm(), [&] {
    PreparedRun run;
    run.loaded = load_job(options.job_file, overrides_of(options, environment));
    run.job = run.loaded.job;
    world.watchdog().set_timeout(run.job.guard.hang_timeout_s);
    // Sooner than anything that only sees that nobody moves: this wait knows which host did not come.
    world.set_peer_timeout(0.9 * run.job.guard.hang_timeout_s);
    if (options.dry_run) return run;
    run.backend = choose_backend(run.job.device.backend, find_cuda());
    world.comm().note_progress({.doing = "compiling the step"});
    run.tokenizer = complete_job(run.job);
    check_init(run);
    run.mesh = resolve_mesh(run.job.mesh, world.size(), run.job.model);
    run.batch = plan_batch(run.job, run.mesh);
    compile(run, options, world);
    stop_if_requested();
    if (options.resume != "auto" && options.resume != "never") require_exists("--resume", options.resume);
    return run;
  });
}

}  // namespace

PreparedRun prepare_run(const RunOptions& options, const std::vector<std::string>& environment,
                        World& world) {
  PreparedRun run = prepare(options, environment, world);
  if (options.dry_run) return run;
  require_same(world.comm(), fingerprint(run), "the job");
  world.comm().note_progress({.doing = "opening the data"});
  open_data(run, world.comm());
  return run;
}

}  // namespace takt
