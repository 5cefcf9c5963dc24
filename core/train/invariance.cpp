// invariance: all sums over the batch are one binary tree over its micro-batches. It is taken in stages, of which each
// adds up consecutive nodes: over a rank's micro-batches, over the ranks of a group, over groups. A stage leaves nodes of
// the tree only if it adds up a power of two; the last one may be of any size.
#include "core/train/invariance.h"

#include <bit>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/passes/numerics.h"

namespace takt {
namespace {

constexpr std::string_view kKey = "train.numerics = \"invariant\"";

bool is_power_of_two(std::int64_t number) {
  return std::has_single_bit(static_cast<std::uint64_t>(number));
}

struct Stage {
  std::string_view what;
  std::int64_t size;
  std::string_view fix;
};

// In the order in which sums are taken: see BatchPlan::ranks_side_by_side.
std::vector<Stage> stages_of(const Mesh& mesh, const BatchPlan& batch) {
  const Stage micro_batches{
      "micro-batches of a rank", batch.num_micro_batches,
      "choose train.global_batch and train.micro_batch so that each has a power of two"},
      ranks{"data ranks of a group", mesh.size_of("data"), "use a power of two for mesh.shard_group"},
      groups{"groups of data ranks", mesh.size_of("replica"), ""};
  if (batch.ranks_side_by_side > 1) return {ranks, micro_batches, groups};
  return {micro_batches, ranks, groups};
}

void require_tree(const Mesh& mesh, const BatchPlan& batch) {
  const std::vector<Stage> stages = stages_of(mesh, batch);
  for (std::size_t s = 0; s < stages.size(); ++s) {
    bool is_last = true;
    for (std::size_t after = s + 1; after < stages.size(); ++after)
      is_last = is_last && stages[after].size == 1;
    TAKT_REQUIRE(is_last || is_power_of_two(stages[s].size), kKey, ": ", stages[s].size, " ", stages[s].what,
                 " are no power of two, and their sums no part of the sum over the whole batch\n  ",
                 stages[s].fix, ", or use another number of data ranks");
  }
}

}  // namespace

void require_invariance(const StepConfig& config, const Mesh& mesh, const BatchPlan& batch,
                        const RankDevice& device) {
  if (config.numerics == Numerics::kFast) return;
  TAKT_REQUIRE(device.kind == DeviceKind::kCpu, kKey,
               " is for CPUs: on GPUs, products and reductions do not promise one order of sums\n"
               "  use device.backend = \"cpu\", or train.numerics = \"fast\"");
  const int tensor = mesh.size_of("tensor");
  TAKT_REQUIRE(is_power_of_two(tensor) && tensor <= kMostPieces, kKey, ": tensor=", tensor,
               " does not cut sums where one rank does\n  use tensor = 1, 2, 4 or ", kMostPieces);
  for (const char* axis : {"context", "expert"})
    TAKT_REQUIRE(mesh.size_of(axis) == 1, kKey, ": ", axis, "=", mesh.size_of(axis),
                 " sums in another order than one rank does\n  use ", axis, " = 1");
  const std::string& optimizer = config.optimizer.kind;
  TAKT_REQUIRE(optimizer != "lamb" && optimizer != "muon", kKey, ": optimizer.kind = \"", optimizer,
               "\" sums over parameters, which meshes cut differently\n  use adamw, lion or sgd");
  require_tree(mesh, batch);
}

}  // namespace takt
