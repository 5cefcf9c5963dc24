// takt plan: compile one training step and print what every rank would do, without doing it.
// Touches no device and no data. Exits 0 if the step fits hosts like this one, 71 if it does not.
#include <CLI/App.hpp>
#include <iostream>

#include "core/device/cuda_support.h"
#include "launch/compile_for_host.h"
#include "launch/cpu_threads.h"
#include "launch/job_file.h"
#include "launch/job_task.h"
#include "launch/plan_text.h"
#include "launch/registry.h"
#include "launch/resolve_mesh.h"
#include "launch/run_options.h"

namespace takt {
namespace {

struct PlanOptions {
  RunOptions run;
  int ranks = 0;
  std::string after;
};

void add_options(CLI::App& app, PlanOptions& options) {
  add_job_options(app, options.run);
  app.add_option("--ranks", options.ranks, "How many ranks to plan for; without it what mesh.layout says")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app.add_option("--after", options.after, "Print the graphs as they are after this pass")
      ->type_name("PASS")
      ->check(CLI::IsMember(pass_names()));
}

int planned_ranks(const PlanOptions& options, const MeshConfig& mesh) {
  if (options.ranks > 0) return options.ranks;
  if (mesh.is_auto) return 1;
  constexpr std::int64_t kMostRanks = 1 << 24;
  const std::int64_t data = std::max<std::int64_t>(1, mesh.data);
  TAKT_REQUIRE(data <= kMostRanks / mesh.tensor && data * mesh.tensor <= kMostRanks / mesh.expert,
               "mesh.layout: data=", data, " x expert=", mesh.expert, " x tensor=", mesh.tensor,
               " is more than ", kMostRanks, " ranks");
  return static_cast<int>(data * mesh.expert * mesh.tensor);
}

// A plan touches no device: "cuda" is planned wherever its kernels are built in, "auto" is the CPU.
DeviceKind planned_device(const Job& job) {
  if (job.device.backend != "cuda") return DeviceKind::kCpu;
  TAKT_REQUIRE(is_cuda_built_in(),
               "device.backend = \"cuda\": this build has no CUDA kernels\n  configure with -DTAKT_CUDA=ON "
               "and build again");
  return DeviceKind::kCuda;
}

int run(const PlanOptions& options, const CommandContext& context) {
  const Job job = load_job(options.run.job_file, overrides_of(options.run, context.environment)).job;
  const std::unique_ptr<JobTask> task = make_task(job);
  PassObserver observer;
  if (!options.after.empty())
    observer = [&](std::string_view pass, std::string_view program, const Graph& graph) {
      if (pass == options.after)
        std::cout << "program " << program << " after " << pass << "\n" << to_string(graph) << "\n";
    };
  const DeviceKind device = planned_device(job);
  const StepConfig config = step_config(job, task->unit(), device);
  StepCompiler compiler(*task, config);
  const Mesh mesh = resolve_mesh(job.mesh, planned_ranks(options, job.mesh),
                                 compiler.extents_to_divide("tensor"), compiler.extents_to_divide("expert"));
  const HostLimits host = limits_of_this_host();
  // On GPUs the ranks of a host do not share memory.
  const HostedStep step =
      device == DeviceKind::kCuda
          ? HostedStep{compiler.compile(mesh, {device, cpu_threads(job.threads, 1)}),
                       options.run.ranks_per_host.value_or(1)}
          : compile_for_host(compiler, mesh, job.threads, options.run.ranks_per_host, host);
  if (observer) compile_step(*task, config, mesh, step.plan.device, observer);
  const BatchPlan batch = compiler.batch(mesh);
  if (options.after.empty()) std::cout << plan_text(step.plan, batch, step.ranks_on_host) << std::flush;
  if (device == DeviceKind::kCpu) require_memory(step.plan, batch, step.ranks_on_host, host.memory_bytes);
  return 0;
}

}  // namespace

Command plan_command() {
  return {.name = "plan",
          .summary = "Show the compiled step: graphs, memory and messages",
          .prepare = with_options<PlanOptions>(add_options, run)};
}

}  // namespace takt
