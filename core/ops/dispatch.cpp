// dispatch: y[expert, b, place, :] = w[b, s, p] x[b, s, :]  for every pick p of a token that has the slot (expert, place)
// combine:  x[b, s, :] = sum over picks p of w[b, s, p] y[slot(b, s, p), :],  the mirror
// slot_dot: w[b, s, p] = sum over columns of y[slot(b, s, p), :] x[b, s, :]
//
// Slots     as `route` gives them: distinct within a sample. Empty ones are zeros; a dropped pick adds nothing.
// Weights   f32; without them every pick weighs 1.
// Layout    experts lead, so that their products are one stacked product; then samples, each with its own slots.
// Gradient  of dispatch: combine for x, slot_dot for w; of combine: dispatch for y, slot_dot for w.
// Placement samples and columns stay sharded, and tokens: then every rank fills the slots of its own, a partial sum. Linear
//           in x, in y and in w. Experts and slots are whole: from samples to experts is a conversion.
// Cost      a product and a sum an element. Memory bound.
// Source    Lepikhin et al. 2020, arXiv:2006.16668, section 2.2, with indices where that has masks.
#include <algorithm>
#include <cstring>

#include "core/ops/elementwise.h"
#include "core/ops/op.h"
#include "core/ops/rows.h"

namespace takt {
namespace {

// Extents of tokens [batch, seq, columns], picks [batch, seq, pick] and slots [expert, batch, slot, columns].
struct Layout {
  std::int64_t batch, seq, picks, experts, capacity, columns;

  Layout(const TensorDesc& tokens, const TensorDesc& of_picks, const TensorDesc& of_slots)
      : batch(tokens.dims[0].extent),
        seq(tokens.dims[1].extent),
        picks(of_picks.dims[2].extent),
        experts(of_slots.dims[0].extent),
        capacity(of_slots.dims[2].extent),
        columns(tokens.dims[2].extent) {}
  std::int64_t num_tokens() const { return batch * seq; }
  std::int64_t num_slots() const { return experts * batch * capacity; }
  // The first element of the slot that a token picked.
  std::int64_t offset(std::int64_t token, std::int64_t slot) const {
    return ((slot / capacity * batch + token / seq) * capacity + slot % capacity) * columns;
  }
};

void require_picks(const OpArgs& args, const TensorDesc& tokens) {
  const TensorDesc& slots = args.input(1);
  TAKT_REQUIRE(tokens.dims.size() == 3 && is_floating(tokens.dtype), args.name,
               ": tokens must be [batch, seq, columns], got ", tokens);
  TAKT_REQUIRE(slots.dims.size() == 3 && slots.dtype == DType::kI32 && slots.dims[0] == tokens.dims[0] &&
                   slots.dims[1] == tokens.dims[1],
               args.name, ": slots must be i32 with the samples and positions of the tokens ", tokens,
               ", got ", slots);
}

void require_weights(const OpArgs& args) {
  if (args.inputs.size() < 3) return;
  TAKT_REQUIRE(args.input(2).dims == args.input(1).dims && args.input(2).dtype == DType::kF32, args.name,
               ": weights must be f32 like the slots ", args.input(1), ", got ", args.input(2));
}

void require_slots(const OpArgs& args, const TensorDesc& y) {
  TAKT_REQUIRE(y.dims.size() == 4 && is_floating(y.dtype) && y.dims[0].axis == "expert" &&
                   y.dims[1] == args.input(1).dims[0] && y.dims[2].axis == "slot",
               args.name, ": wanted [expert, batch, slot, columns] with the samples of ", args.input(1),
               ", got ", y);
}

// Tensors with an axis are sharded along it; what lacks it is whole, or a partial sum; linear in two factors.
std::vector<OpPlacement> placements(const OpArgs& args) {
  PlacementRule rule{.whole = {"expert", "slot", "pick"}, .linear_in = {{0}}};
  if (args.inputs.size() == 3) rule.linear_in.push_back({2});
  return signatures_by(rule, args);
}

Cost cost(const OpArgs& args) {
  const double picks = static_cast<double>(args.input(1).dims[2].extent);
  const TensorDesc& x = args.input(0);
  return cost_of_traffic(args, 2 * picks * static_cast<double>(x.num_elements()));
}

ValueId slot_dot(Graph& graph, ValueId y, ValueId slots, ValueId x, const std::string& name) {
  return graph.append_one(slot_dot_op(), {y, slots, x}, {}, name);
}

std::optional<ValueId> weights_of(const Node& node) {
  return node.inputs.size() == 3 ? std::optional(node.inputs[2]) : std::nullopt;
}

// dispatch(x, slots[, weights])
std::vector<TensorDesc> infer_dispatch(const OpArgs& args) {
  const TensorDesc& x = args.input(0);
  require_picks(args, x);
  require_weights(args);
  return {{{{"expert", args.attrs.integer("experts")},
            x.dims[0],
            {"slot", args.attrs.integer("capacity")},
            x.dims[2]},
           x.dtype}};
}

Gradients grad_dispatch(const GradArgs& args) {
  const Node& node = args.node;
  const std::string name = "d." + node.name;
  const ValueId slots = node.inputs[1];
  Gradients grads = {combine(args.graph, dy_of(args), slots, weights_of(node), name), std::nullopt};
  if (weights_of(node))
    grads.push_back(slot_dot(args.graph, dy_of(args), slots, node.inputs[0], name + ".weights"));
  return grads;
}

void reference_dispatch(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l(args.input(0), args.input(1), args.output(0));
  for (std::int64_t t = 0; t < l.num_tokens(); ++t)
    for (std::int64_t p = 0; p < l.picks; ++p) {
      const auto slot = static_cast<std::int64_t>(inputs[1]->data[t * l.picks + p]);
      const double weight = inputs.size() == 3 ? inputs[2]->data[t * l.picks + p] : 1.0;
      for (std::int64_t c = 0; slot >= 0 && c < l.columns; ++c)
        outputs[0].data[l.offset(t, slot) + c] = weight * inputs[0]->data[t * l.columns + c];
    }
}

Kernel cpu_dispatch(const KernelNode& node) {
  const Layout l(node.input(0), node.input(1), node.output(0));
  return with_floating(node.output(0).dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return [=, weighted = node.inputs.size() == 3, threads = node.num_threads](const KernelArgs& k) {
      parallel_for(threads, l.num_slots(), [&](std::int64_t slot) {
        std::fill_n(k.output<T>(0) + slot * l.columns, l.columns, stored<T>(0.0f));
      });
      parallel_for(threads, l.num_tokens(), [&](std::int64_t t) {
        const T* x = k.input<T>(0) + t * l.columns;
        for (std::int64_t p = t * l.picks; p < (t + 1) * l.picks; ++p) {
          const std::int32_t slot = k.input<std::int32_t>(1)[p];
          if (slot < 0) continue;
          T* y = k.output<T>(0) + l.offset(t, slot);
          const float weight = weighted ? k.input<float>(2)[p] : 1.0f;
          for (std::int64_t c = 0; c < l.columns; ++c) y[c] = stored<T>(weight * to_float(x[c]));
        }
      });
    };
  });
}

// combine(y, slots[, weights])
std::vector<TensorDesc> infer_combine(const OpArgs& args) {
  const TensorDesc &y = args.input(0), &slots = args.input(1);
  require_slots(args, y);
  const TensorDesc x{{slots.dims[0], slots.dims[1], y.dims[3]}, y.dtype};
  require_picks(args, x);
  require_weights(args);
  return {x};
}

Gradients grad_combine(const GradArgs& args) {
  const Node& node = args.node;
  const std::string name = "d." + node.name;
  const TensorDesc y = args.graph.value(node.inputs[0]).desc;
  const ValueId slots = node.inputs[1];
  Gradients grads = {
      dispatch(args.graph, dy_of(args), slots, y.dims[0].extent, y.dims[2].extent, name, weights_of(node)),
      std::nullopt};
  if (weights_of(node))
    grads.push_back(slot_dot(args.graph, node.inputs[0], slots, dy_of(args), name + ".weights"));
  return grads;
}

void reference_combine(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l(args.output(0), args.input(1), args.input(0));
  for (std::int64_t t = 0; t < l.num_tokens(); ++t)
    for (std::int64_t p = 0; p < l.picks; ++p) {
      const auto slot = static_cast<std::int64_t>(inputs[1]->data[t * l.picks + p]);
      const double weight = inputs.size() == 3 ? inputs[2]->data[t * l.picks + p] : 1.0;
      for (std::int64_t c = 0; slot >= 0 && c < l.columns; ++c)
        outputs[0].data[t * l.columns + c] += weight * inputs[0]->data[l.offset(t, slot) + c];
    }
}

constexpr std::int64_t kBlock = 64;  // columns that are summed in registers

Kernel cpu_combine(const KernelNode& node) {
  const Layout l(node.output(0), node.input(1), node.input(0));
  return with_floating(node.output(0).dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return parallel_kernel(node, l.num_tokens(),
                           [l, weighted = node.inputs.size() == 3](const KernelArgs& k, std::int64_t t) {
                             for (std::int64_t first = 0; first < l.columns; first += kBlock) {
                               const std::int64_t columns = std::min(kBlock, l.columns - first);
                               float sums[kBlock] = {};
                               for (std::int64_t p = t * l.picks; p < (t + 1) * l.picks; ++p) {
                                 const std::int32_t slot = k.input<std::int32_t>(1)[p];
                                 if (slot < 0) continue;
                                 const T* y = k.input<T>(0) + l.offset(t, slot) + first;
                                 const float weight = weighted ? k.input<float>(2)[p] : 1.0f;
                                 for (std::int64_t c = 0; c < columns; ++c)
                                   sums[c] += weight * to_float(y[c]);
                               }
                               T* x = k.output<T>(0) + t * l.columns + first;
                               for (std::int64_t c = 0; c < columns; ++c) x[c] = stored<T>(sums[c]);
                             }
                           });
  });
}

// slot_dot(y, slots, x)
std::vector<TensorDesc> infer_dot(const OpArgs& args) {
  const TensorDesc &y = args.input(0), &x = args.input(2);
  require_picks(args, x);
  require_slots(args, y);
  TAKT_REQUIRE(y.dims[3] == x.dims[2] && y.dtype == x.dtype, "slot_dot '", args.name, "': slots ", y,
               " and tokens ", x, " must have the same columns");
  return {{args.input(1).dims, DType::kF32}};
}

void reference_dot(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Layout l(args.input(2), args.input(1), args.input(0));
  for (std::int64_t p = 0; p < l.num_tokens() * l.picks; ++p) {
    const std::int64_t t = p / l.picks;
    const auto slot = static_cast<std::int64_t>(inputs[1]->data[p]);
    for (std::int64_t c = 0; slot >= 0 && c < l.columns; ++c)
      outputs[0].data[p] += inputs[0]->data[l.offset(t, slot) + c] * inputs[2]->data[t * l.columns + c];
  }
}

Kernel cpu_dot(const KernelNode& node) {
  const Layout l(node.input(2), node.input(1), node.input(0));
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return parallel_kernel(node, l.num_tokens() * l.picks, [l](const KernelArgs& k, std::int64_t p) {
      const std::int64_t t = p / l.picks;
      const std::int32_t slot = k.input<std::int32_t>(1)[p];
      const T *y = k.input<T>(0) + (slot < 0 ? 0 : l.offset(t, slot)), *x = k.input<T>(2) + t * l.columns;
      k.output<float>(0)[p] =
          slot < 0 ? 0.0f
                   : row_sum(l.columns, [&](std::int64_t c) { return to_float(y[c]) * to_float(x[c]); });
    });
  });
}

// What a sample routes: four tokens' picks of four experts with two slots each, so that some are dropped and some empty.
Routes routes(Graph& g) {
  return route(g, g.input("logits", {{{"batch", 4}, {"seq", 4}, {"choice", 4}}}), 2, 2, "routes");
}
ValueId tokens(Graph& g) {
  return g.input("x", {{{"batch", 4}, {"seq", 4}, {"embed", 12}}});
}
ValueId slots(Graph& g) {
  return g.input("slots", {{{"expert", 4}, {"batch", 4}, {"slot", 2}, {"embed", 12}}});
}

// What has no weights is given what had: the logits, an input, must have a part in the result.
std::vector<Sample> samples_dispatch() {
  return {{.name = "of weight 1",
           .build =
               [](Graph& g) {
                 const Routes r = routes(g);
                 dispatch(g, combine(g, slots(g), r.slots, r.weights, "x"), r.slots, 4, 2, "y");
               }},
          {.name = "weighted", .build = [](Graph& g) {
             const Routes r = routes(g);
             dispatch(g, tokens(g), r.slots, 4, 2, "y", r.weights);
           }}};
}

std::vector<Sample> samples_combine() {
  return {{.name = "of weight 1",
           .build =
               [](Graph& g) {
                 const Routes r = routes(g);
                 combine(g, dispatch(g, tokens(g), r.slots, 4, 2, "x", r.weights), r.slots, {}, "y");
               }},
          {.name = "weighted", .build = [](Graph& g) {
             const Routes r = routes(g);
             combine(g, slots(g), r.slots, r.weights, "y");
           }}};
}

void build_dot(Graph& g) {
  slot_dot(g, slots(g), routes(g).slots, tokens(g), "y");
}

}  // namespace

OpDef dispatch_record() {
  return {.infer = infer_dispatch,
          .grad = grad_dispatch,
          .cost = cost,
          .placements = placements,
          .f32_inputs = {2},
          .reference = reference_dispatch,
          .cpu = {.prepare = cpu_dispatch, .bf16 = true},
          .samples = samples_dispatch()};
}

OpDef combine_record() {
  return {.infer = infer_combine,
          .grad = grad_combine,
          .cost = cost,
          .placements = placements,
          .f32_inputs = {2},
          .reference = reference_combine,
          .cpu = {.prepare = cpu_combine, .bf16 = true},
          .samples = samples_combine()};
}

OpDef slot_dot_record() {
  return {.infer = infer_dot,
          .cost = cost,
          .placements = placements,
          .reference = reference_dot,
          .cpu = {.prepare = cpu_dot, .bf16 = true},
          .samples = {{.name = "two experts a token", .build = build_dot}}};
}

ValueId dispatch(Graph& graph, ValueId x, ValueId slots, std::int64_t experts, std::int64_t capacity,
                 const std::string& name, std::optional<ValueId> weights) {
  std::vector<ValueId> inputs = {x, slots};
  if (weights) inputs.push_back(*weights);
  return graph.append_one(dispatch_op(), inputs, {{"experts", experts}, {"capacity", capacity}}, name);
}

ValueId combine(Graph& graph, ValueId y, ValueId slots, std::optional<ValueId> weights,
                const std::string& name) {
  std::vector<ValueId> inputs = {y, slots};
  if (weights) inputs.push_back(*weights);
  return graph.append_one(combine_op(), inputs, {}, name);
}

}  // namespace takt
