// Layouts are compiled one after the other; what does not depend on the mesh is compiled once.
#include "launch/choose_layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/units.h"
#include "core/train/step_estimate.h"
#include "launch/choose_recompute.h"
#include "launch/resolve_mesh.h"

namespace takt {
namespace {

bool divides_all(std::int64_t size, const std::vector<Dim>& extents) {
  return std::all_of(extents.begin(), extents.end(), [&](const Dim& dim) { return dim.extent % size == 0; });
}

RankedLayout rank(StepCompiler& compiler, const Mesh& mesh, const RankDevice& device,
                  std::uint64_t memory_bytes) {
  RankedLayout layout{.mesh = mesh};
  try {
    const StepPlan plan = compiler.candidate(mesh, device);
    layout.step_s = estimated_step_s(plan, typical_rates(device));
    layout.rank_bytes = plan.arena.num_bytes();
    if (layout.rank_bytes > memory_bytes)
      layout.problem = fmt::format("needs {} a rank, which has {}", format_bytes(layout.rank_bytes),
                                   format_bytes(memory_bytes));
  } catch (const Error& error) {
    if (error.fault() != Fault::kConfig) throw;
    layout.problem = std::string(error.what()).substr(0, std::string(error.what()).find('\n'));
  }
  return layout;
}

}  // namespace

std::vector<RankedLayout> rank_layouts(StepCompiler& compiler, const MeshConfig& config, int num_ranks,
                                       const RankDevice& device, std::uint64_t memory_bytes) {
  const auto extents = [&](const Axis& axis) { return compiler.extents_to_divide(axis); };
  std::vector<RankedLayout> layouts;
  MeshConfig asked = config;
  asked.is_auto = false;
  asked.data = 0;
  asked.expert = 1;
  const std::vector<Dim> over_context = extents("context"), over_tensor = extents("tensor");
  for (asked.context = 1; asked.context <= num_ranks; ++asked.context) {
    if (num_ranks % asked.context != 0 || !divides_all(asked.context, over_context)) continue;
    for (asked.tensor = 1; asked.tensor * asked.context <= num_ranks; ++asked.tensor)
      if (num_ranks % (asked.tensor * asked.context) == 0 &&
          divides_all(asked.context * asked.tensor, over_tensor) &&
          (asked.shard_group == 0 || num_ranks / (asked.tensor * asked.context) % asked.shard_group == 0))
        layouts.push_back(rank(compiler, resolve_mesh(asked, num_ranks, extents), device, memory_bytes));
  }
  TAKT_REQUIRE(!layouts.empty(), "mesh.layout = \"auto\": ", num_ranks, " ranks have no groups of ",
               asked.shard_group, "\n  use a mesh.shard_group that divides them");
  std::stable_sort(layouts.begin(), layouts.end(), [](const RankedLayout& a, const RankedLayout& b) {
    return std::tuple(!a.problem.empty(), a.step_s) < std::tuple(!b.problem.empty(), b.step_s);
  });
  return layouts;
}

Mesh choose_mesh(StepCompiler& compiler, const Job& job, int num_ranks, const RankDevice& device,
                 std::uint64_t memory_bytes, std::vector<RankedLayout>* table) {
  if (!job.mesh.is_auto || num_ranks == 1)
    return resolve_mesh(job.mesh, num_ranks,
                        [&](const Axis& axis) { return compiler.extents_to_divide(axis); });
  std::vector<RankedLayout> layouts;
  choose_recompute(compiler, job.train.recompute, [&] {
    layouts = rank_layouts(compiler, job.mesh, num_ranks, device, memory_bytes);
    return layouts.front().problem.empty();
  });
  if (table != nullptr) *table = layouts;
  return best_layout(layouts);
}

Mesh best_layout(const std::vector<RankedLayout>& layouts) {
  TAKT_ASSERT(!layouts.empty(), "mesh: there is no layout at all");
  if (layouts.front().problem.empty()) return layouts.front().mesh;
  const bool is_memory =
      std::any_of(layouts.begin(), layouts.end(), [](const RankedLayout& l) { return l.rank_bytes > 0; });
  fail(
      is_memory ? Fault::kMemory : Fault::kConfig, "mesh.layout = \"auto\": no layout can be taken\n",
      layouts_text(layouts),
      is_memory
          ? "  what helps: mesh.shard, train.recompute = \"auto\", a smaller train.micro_batch, or more ranks"
          : "  what helps: a train.global_batch that more numbers divide");
}

std::string layouts_text(const std::vector<RankedLayout>& layouts) {
  std::string text;
  for (const RankedLayout& layout : layouts)
    text += fmt::format("  {:<36} {}\n", to_string(layout.mesh),
                        layout.problem.empty() ? fmt::format("about {:.3g} s a step, {} a rank",
                                                             layout.step_s, format_bytes(layout.rank_bytes))
                                               : layout.problem);
  return text;
}

}  // namespace takt
