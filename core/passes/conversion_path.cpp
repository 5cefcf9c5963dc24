// conversion_path: one step at a time, always the one that leaves the least to hold and move afterwards.
#include "core/passes/conversion_path.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/passes/sharding_rules.h"

namespace takt {
namespace {

bool may_cut(const Placement& placement, const AxisPlacement& cut, std::size_t m, const Mesh& mesh) {
  return !cut.is_sharded() || is_innermost_cut(placement, mesh, m, cut.axis);
}

// Lower comes first: shrink (slice, reduce-scatter), keep the size, grow (all-gather).
int order_of(const AxisPlacement& from, const AxisPlacement& to) {
  if (!from.is_sharded() && to.is_sharded()) return 0;
  if (from.is_sharded() && !to.is_sharded()) return 2;
  return 1;
}

class Path {
 public:
  Path(const Placement& from, const Placement& to, const TensorDesc& global, const Mesh& mesh)
      : now_(from), to_(to), global_(global), mesh_(mesh) {}

  std::vector<ConversionStep> find() {
    while (now_ != to_)
      if (!take_best()) peel_blocking_cut();
    return std::move(steps_);
  }

 private:
  // A piece that goes to another axis or becomes a summand is first made whole where it cannot go directly.
  AxisPlacement next(std::size_t m) const {
    const bool direct = !to_[m].is_partial() && (!now_[m].is_sharded() || !to_[m].is_sharded() || is_even(m));
    return direct || now_[m].is_replicated() ? to_[m] : AxisPlacement::replicated();
  }

  // Are all pieces along mesh axis m full? Only then do they fit into an all-to-all.
  bool is_even(std::size_t m) const {
    Placement whole = now_;
    whole[m] = AxisPlacement::replicated();
    const Dims dims = local_dims(global_.dims, whole, mesh_);
    return dims[static_cast<std::size_t>(find_axis(dims, now_[m].axis))].extent % mesh_.axes[m].size == 0;
  }

  // A cut that mesh axes outside of m still have to begin or end on the same tensor axis: m cuts after them.
  bool waits(std::size_t m) const {
    const AxisPlacement cut = next(m);
    if (!cut.is_sharded()) return false;
    for (std::size_t o = 0; o < to_.size(); ++o)
      if (o != m && mesh_.cuts_inside(static_cast<int>(m), static_cast<int>(o)) && now_[o] != to_[o] &&
          (now_[o] == cut || to_[o] == cut))
        return true;
    return false;
  }

  bool take_best() {
    int best = -1, best_order = 3;
    for (std::size_t m = 0; m < to_.size(); ++m) {
      if (now_[m] == to_[m] || !may_cut(now_, now_[m], m, mesh_) || !may_cut(now_, next(m), m, mesh_) ||
          waits(m))
        continue;
      const int order = order_of(now_[m], next(m));
      if (order < best_order) {
        best = static_cast<int>(m);
        best_order = order;
      }
    }
    if (best < 0) return false;
    step(static_cast<std::size_t>(best), next(static_cast<std::size_t>(best)));
    return true;
  }

  // Every axis that is wrong waits for a cut inside its own: that one is gathered, and cut again later where it was right.
  void peel_blocking_cut() {
    const std::vector<int> order = mesh_.cut_order();
    for (std::size_t i = order.size(); i-- > 0;) {
      const auto m = static_cast<std::size_t>(order[i]);
      if (!now_[m].is_sharded() || !may_cut(now_, now_[m], m, mesh_)) continue;
      const bool blocks = std::any_of(order.begin(), order.end(), [&](int other) {
        const auto o = static_cast<std::size_t>(other);
        const bool same_axis = (now_[o].is_sharded() && now_[o].axis == now_[m].axis) ||
                               (to_[o].is_sharded() && to_[o].axis == now_[m].axis);
        return o != m && now_[o] != to_[o] && same_axis && mesh_.cuts_inside(static_cast<int>(m), other);
      });
      if (!blocks) continue;
      step(m, AxisPlacement::replicated());
      return;
    }
    fail(Fault::kBug, "no way from ", to_string(now_), " to ", to_string(to_));
  }

  void step(std::size_t m, const AxisPlacement& to) {
    ConversionStep step{.mesh_axes = {static_cast<int>(m)}, .from = now_[m], .to = to, .after = {}};
    now_[m] = to;
    if (step.from.is_partial() && to.is_replicated())
      for (std::size_t other = 0; other < to_.size(); ++other)
        if (now_[other] == step.from && to_[other].is_replicated()) {
          step.mesh_axes.push_back(static_cast<int>(other));
          now_[other] = to;
        }
    std::sort(step.mesh_axes.begin(), step.mesh_axes.end());
    step.after = now_;
    steps_.push_back(step);
  }

  Placement now_;
  const Placement& to_;
  const TensorDesc& global_;
  const Mesh& mesh_;
  std::vector<ConversionStep> steps_;
};

double bytes_of(const TensorDesc& global, const Placement& placement, const Mesh& mesh) {
  return static_cast<double>(TensorDesc{local_dims(global.dims, placement, mesh), global.dtype}.num_bytes());
}

double price_of(const ConversionStep& step, const Placement& before, const TensorDesc& global,
                const Mesh& mesh) {
  const double in = bytes_of(global, before, mesh), out = bytes_of(global, step.after, mesh);
  const AxisPlacement &from = step.from, &to = step.to;
  const bool is_real = is_floating(global.dtype);
  if (from.is_replicated())
    return to.is_sharded()                          ? kLocalShare * out
           : is_real && to.reduce == ReduceOp::kSum ? kLocalShare * out
                                                    : kImpossible;
  if (!is_real) return kImpossible;  // indices are never reduced or gathered
  if (from.is_partial())
    return to.is_partial() ? kImpossible : kLatencyBytes + in * (to.is_sharded() ? 1 : 2);
  return kLatencyBytes + (to.is_sharded() ? in : out);
}

}  // namespace

std::vector<ConversionStep> conversion_path(const Placement& from, const Placement& to,
                                            const TensorDesc& global, const Mesh& mesh) {
  return Path(from, to, global, mesh).find();
}

double conversion_price(const Placement& from, const Placement& to, const TensorDesc& global,
                        const Mesh& mesh) {
  double price = 0;
  Placement before = from;
  for (const ConversionStep& step : conversion_path(from, to, global, mesh)) {
    price += price_of(step, before, global, mesh);
    before = step.after;
  }
  return price;
}

}  // namespace takt
