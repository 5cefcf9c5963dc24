// Mesh axes up to `last` are decided; the choice for `last` is looked at.
#include "core/passes/placement_choice.h"

#include <algorithm>
#include <set>

namespace takt {
namespace {

std::set<Axis> axes_cut(const PlacementChoice& choice, std::size_t m) {
  std::set<Axis> axes;
  for (const std::vector<Placement>* placements : {&choice.inputs, &choice.outputs})
    for (const Placement& placement : *placements)
      if (placement[m].is_sharded()) axes.insert(placement[m].axis);
  return axes;
}

}  // namespace

std::int64_t num_pieces(const Placement& placement, std::size_t last, const Mesh& mesh) {
  std::int64_t pieces = 1;
  for (std::size_t m = 0; m <= last; ++m)
    if (placement[m] == placement[last]) pieces *= mesh.axes[m].size;
  return pieces;
}

bool pieces_match(const OpArgs& args, const PlacementChoice& choice, std::size_t last, const Mesh& mesh) {
  std::set<std::int64_t> extents;
  bool is_even = true;
  const auto look = [&](const TensorDesc& desc, const Placement& placement) {
    if (!placement[last].is_sharded()) return;
    const std::int64_t extent = desc.extent(placement[last].axis);
    extents.insert(extent);
    is_even = is_even && extent % num_pieces(placement, last, mesh) == 0;
  };
  for (std::size_t i = 0; i < args.inputs.size(); ++i) look(args.inputs[i], choice.inputs[i]);
  for (std::size_t i = 0; i < args.outputs.size(); ++i) look(args.outputs[i], choice.outputs[i]);
  return extents.size() < 2 || is_even;
}

bool cuts_nest(const PlacementChoice& choice, std::size_t last, const Mesh& mesh) {
  const std::set<Axis> mine = axes_cut(choice, last);
  for (std::size_t m = 0; m < last; ++m) {
    const std::set<Axis> others = axes_cut(choice, m);
    const bool share =
        std::any_of(mine.begin(), mine.end(), [&](const Axis& axis) { return others.contains(axis); });
    if (!share) continue;
    const bool inside = mesh.cuts_inside(static_cast<int>(last), static_cast<int>(m));
    const std::set<Axis>&outer = inside ? others : mine, &inner = inside ? mine : others;
    if (!std::includes(outer.begin(), outer.end(), inner.begin(), inner.end())) return false;
  }
  return true;
}

}  // namespace takt
