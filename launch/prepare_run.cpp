// Fail before step 1: the checks are the stages themselves, run on every rank, agreed on once.
#include "launch/prepare_run.h"

#include <filesystem>

#include "collectives/agree.h"
#include "collectives/share.h"
#include "launch/compile_for_host.h"
#include "launch/cpu_threads.h"
#include "launch/job_task.h"
#include "launch/plan_text.h"
#include "launch/resolve_mesh.h"
#include "launch/stop_signal.h"
#include "launch/version.h"

namespace takt {
namespace {

void require_exists(const std::string& what, const std::string& path) {
  if (!path.empty() && !std::filesystem::exists(path))
    fail(Fault::kData, what, ": ", path, " does not exist");
}

void check_init(PreparedRun& run) {
  const std::string& init = run.job.model.init;
  if (init.empty()) return;
  require_exists("model.init", init);
  if (!require_same_model(init, *run.task))
    run.notices.push_back(
        concat("warning: no config.json lies beside model.init ", init,
               "\n  what the shapes of these weights do not show, such as norm epsilon, head "
               "split and activation, is taken from the job file unseen"));
}

// One GPU a rank, whose memory is its own.
void compile_for_gpu(PreparedRun& run, StepCompiler& compiler) {
  run.plan = compiler.compile(run.mesh, {DeviceKind::kCuda, cpu_threads(run.job.threads, 1)});
  require_memory(run.plan, run.batch, 1, run.gpu.memory_bytes);
  run.memory_limit_bytes = run.gpu.memory_bytes;
}

void compile(PreparedRun& run, StepCompiler& compiler, const RunOptions& options, const World& world) {
  const int placed = world.ranks_on_host();
  if (options.ranks_per_host && placed > *options.ranks_per_host)
    fail(Fault::kUsage, "--ranks-per-host ", *options.ranks_per_host, ": the launcher placed ", placed,
         " ranks on ", world.host(), "\n  Open MPI: mpirun --map-by ppr:", *options.ranks_per_host,
         ":node; Slurm: srun --ntasks-per-node=", *options.ranks_per_host);
  if (run.device == DeviceKind::kCuda) return compile_for_gpu(run, compiler);
  const HostLimits host = limits_of_this_host();
  HostedStep step =
      compile_for_host(compiler, run.mesh, run.job.threads, options.ranks_per_host.value_or(placed), host);
  require_memory(step.plan, run.batch, step.ranks_on_host, host.memory_bytes);
  run.plan = std::move(step.plan);
  run.memory_limit_bytes = host.memory_bytes / static_cast<std::uint64_t>(step.ranks_on_host);
}

// Everything that decides what a rank computes. A rank with another environment, file or binary would train
// on something else without a sign.
std::string fingerprint(const PreparedRun& run) {
  return concat(version(), " ", build_summary(), " ", effective_file(run.loaded), run.task->describe(),
                run.device == DeviceKind::kCuda ? " on GPUs" : "");
}

PreparedRun load(const RunOptions& options, const std::vector<std::string>& environment, World& world) {
  return agree(world.comm(), [&] {
    PreparedRun run;
    run.loaded = load_job(options.job_file, overrides_of(options, environment));
    run.job = run.loaded.job;
    world.watchdog().set_timeout(run.job.guard.hang_timeout_s);
    // Sooner than anything that only sees that nobody moves: this wait knows which host did not come.
    world.set_peer_timeout(0.9 * run.job.guard.hang_timeout_s);
    if (!options.dry_run) run.device = choose_backend(run.job.device.backend, find_cuda());
    return run;
  });
}

// Outside of agree(), since ranks compare what they see of their host.
void take_gpu(PreparedRun& run, const std::vector<std::string>& environment, World& world) {
  require_same(world.comm(), run.device == DeviceKind::kCuda ? "GPUs" : "CPUs", "what computes");
  if (run.device != DeviceKind::kCuda) return;
  const GpuChoice choice =
      choose_gpu(find_cuda(), environment,
                 {.all = world.comm(), .host = world.host(), .host_number = world.host_number()});
  run.gpu = choice.gpu;
  run.executor = {
      .gpu = choice.gpu.ordinal, .matmul_choices = run.job.device.matmul_choices, .nccl = run.job.nccl};
  run.executor.calls = &world.calls();
  run.executor.nccl.domain = std::to_string(choice.domain);
  run.executor.nccl.call_timeout_s = 0.9 * run.job.guard.hang_timeout_s;
}

void plan(PreparedRun& run, const RunOptions& options, World& world) {
  agree(world.comm(), [&] {
    world.comm().note_progress({.doing = "compiling the step"});
    run.task = make_task(run.job);
    check_init(run);
    run.config = step_config(run.job, run.task->unit(), run.device);
    StepCompiler compiler(*run.task, run.config,
                          [](std::string_view, std::string_view, const Graph&) { stop_if_requested(); });
    run.mesh = resolve_mesh(run.job.mesh, world.size(), compiler.extents_to_divide("tensor"),
                            compiler.extents_to_divide("expert"));
    run.batch = compiler.batch(run.mesh);
    compile(run, compiler, options, world);
    stop_if_requested();
    if (options.resume != "auto" && options.resume != "never") require_exists("--resume", options.resume);
  });
}

}  // namespace

PreparedRun prepare_run(const RunOptions& options, const std::vector<std::string>& environment,
                        World& world) {
  PreparedRun run = load(options, environment, world);
  if (options.dry_run) return run;
  take_gpu(run, environment, world);
  plan(run, options, world);
  require_same(world.comm(), fingerprint(run), "the job");
  world.comm().note_progress({.doing = "opening the data"});
  run.data = run.task->open_data(world.comm());
  agree(world.comm(), stop_if_requested);
  return run;
}

}  // namespace takt
