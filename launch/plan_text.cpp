// Everything printed here is read off the graph and the memory plan that the executor runs.
#include "launch/plan_text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "core/base/units.h"

namespace takt {
namespace {

std::string plural(int amount, std::string_view word) {
  return fmt::format("{} {}{}", amount, word, amount == 1 ? "" : "s");
}

bool is_carry(const Program& program) {
  return program.name.starts_with(kCarry);
}

// 0: not worth a word.
std::int64_t runs_a_step(const StepPlan& plan, std::size_t p, const BatchPlan& batch) {
  const Program& program = plan.programs[p];
  if (program.name == kMicroBatch) return batch.num_micro_batches;
  if (program.name == kUpdate) return 1;
  if (!is_carry(program)) return 0;
  return std::count_if(plan.step.begin(), plan.step.end(), [&](const Action& action) {
    return action.kind == Action::Kind::kRun && static_cast<std::size_t>(action.program) == p;
  });
}

std::string program_text(const Program& program, std::int64_t runs_a_step) {
  const ProgramCost cost = cost_of(program);
  std::string text = fmt::format("  {:<12} {:>4} nodes   {:>9} FLOP a run", program.name, cost.num_nodes,
                                 format_count(cost.flops));
  if (runs_a_step > 0) text += fmt::format("   {} a step", runs_a_step);
  if (cost.num_recomputed > 0) text += fmt::format("   {} nodes computed again", cost.num_recomputed);
  for (const ProgramCost::Traffic& traffic : cost.traffic)
    text += fmt::format("\n    {:<8} {:<15} {:>4} calls {:>9}", traffic.mesh_axes, traffic.op,
                        traffic.num_calls, format_bytes(traffic.num_bytes));
  return text + "\n";
}

}  // namespace

std::string memory_text(const StepPlan& plan) {
  std::string text;
  const auto line = [&](std::string_view what, std::size_t num_bytes) {
    text += fmt::format("  {:<22} {:>9}\n", what, format_bytes(num_bytes));
  };
  const auto of = [&](Role role) {
    const auto found = plan.arena.bytes_by_role.find(role);
    return found == plan.arena.bytes_by_role.end() ? std::size_t{0} : found->second;
  };
  line("parameters", of(Role::kParameter));
  line("optimizer state", of(Role::kState));
  const auto carries = std::count_if(plan.programs.begin(), plan.programs.end(), is_carry);
  line(carries > 0 ? fmt::format("gradients, {} levels", carries + 1) : "gradients", of(Role::kAccumulator));
  line("copies, constants", of(Role::kDerived));
  line("activations, scratch", plan.arena.temporary_bytes + of(Role::kInput));
  line("all", plan.arena.num_bytes());
  return text;
}

std::string plan_text(const StepPlan& plan, const BatchPlan& batch, int ranks_on_host) {
  const int num_ranks = plan.mesh.num_ranks(), num_hosts = (num_ranks + ranks_on_host - 1) / ranks_on_host;
  std::string text = fmt::format(
      "mesh {} ({} on {} like this one, {} a host, {} a rank)   batch {} samples = {} x {} accumulated x "
      "{}\n",
      to_string(plan.mesh), plural(num_ranks, "rank"), plural(num_hosts, "host"),
      std::min(ranks_on_host, num_ranks), plural(plan.device.num_threads, "thread"), batch.samples_a_step,
      plan.mesh.data_ranks(), batch.num_micro_batches, batch.micro_batch);
  text += "memory of a rank\n" + memory_text(plan) + "programs of a rank\n";
  for (std::size_t p = 0; p < plan.programs.size(); ++p)
    text += program_text(plan.programs[p], runs_a_step(plan, p, batch));
  return text;
}

namespace {

// The limit of the container or job this process is in; none: the largest number.
std::uint64_t cgroup_memory_bytes() {
  std::ifstream file("/sys/fs/cgroup/memory.max");
  std::uint64_t num_bytes = 0;
  return file >> num_bytes ? num_bytes : std::numeric_limits<std::uint64_t>::max();
}

}  // namespace

std::uint64_t host_memory_bytes() {
  const std::uint64_t installed = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                                  static_cast<std::uint64_t>(sysconf(_SC_PAGE_SIZE));
  return std::min(installed, cgroup_memory_bytes());
}

bool fits_memory(const StepPlan& plan, int ranks_on_host, std::uint64_t memory_bytes) {
  return plan.arena.num_bytes() <= memory_bytes / static_cast<std::uint64_t>(ranks_on_host);
}

void require_memory(const StepPlan& plan, const BatchPlan& batch, int ranks_on_host,
                    std::uint64_t memory_bytes) {
  if (fits_memory(plan, ranks_on_host, memory_bytes)) return;
  const std::uint64_t share = memory_bytes / static_cast<std::uint64_t>(ranks_on_host);
  std::string advice =
      batch.micro_batch > 1 ? fmt::format("a smaller train.micro_batch (now {}), ", batch.micro_batch) : "";
  fail(Fault::kMemory, "memory: a rank needs ", format_gib(plan.arena.num_bytes()), " but has ",
       format_gib(share), " (the host's ", format_gib(memory_bytes), " over ", plural(ranks_on_host, "rank"),
       ")\n", memory_text(plan), "  what helps: ", advice,
       "train.recompute = \"auto\", mesh.shard, a smaller model, a larger mesh.layout tensor, or fewer ranks "
       "a host "
       "(--ranks-per-host)");
}

}  // namespace takt
