// route: which experts a token goes to, with which weights, and into which of their slots
//
// Logits    f32 [batch, seq, choice]. A token goes to its `picks` largest logits; of equal ones the lower number is larger.
// Weights   f32 [batch, seq, pick]: softmax over the picked logits alone, which is softmax over all of them, picked and
//           divided by what the picked have together (Mixtral).
// Slots     i32 [batch, seq, pick]: expert * capacity + place. Places of an expert are given out in the order of a sample's
//           tokens, picks in order. Who comes when all `capacity` are taken is dropped: -1 - expert stands there, and no slot
//           is read or written for it. Only tokens of the same sample compete, so that nothing depends on how samples are
//           spread, and only with those before them, so that what follows a token does not change it.
// Load      f32 [batch, choice]: the picks of an expert, dropped ones too, over the number of tokens. Sums to `picks`.
// Gradient  dlogits[e] = w (dw - sum over picks of w dw) for a picked e, else 0 (route_grad). Slots and load have none.
// Placement samples stay sharded; tokens of a sample and choices are whole. The gradient also shares tokens.
// Source    Jiang et al. 2024, arXiv:2401.04088, section 2.1; capacity: Lepikhin et al. 2020, arXiv:2006.16668.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/ops/op.h"

namespace takt {
namespace {

std::int64_t picks_of(const OpArgs& args) {
  return args.attrs.integer("picks");
}
std::int64_t capacity_of(const OpArgs& args) {
  return args.attrs.integer("capacity");
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc& logits = args.input(0);
  const std::int64_t picks = picks_of(args), capacity = capacity_of(args);
  TAKT_REQUIRE(logits.dims.size() == 3 && logits.dtype == DType::kF32, "route '", args.name,
               "': logits must be f32 [batch, seq, choice], got ", logits);
  const Dim &batch = logits.dims[0], &seq = logits.dims[1], &choice = logits.dims[2];
  TAKT_REQUIRE(picks >= 1 && picks <= choice.extent, "route '", args.name, "': a token cannot go to ", picks,
               " of ", choice.extent, " experts\n  take 1 to ", choice.extent);
  TAKT_REQUIRE(capacity >= 1, "route '", args.name, "': an expert must have a slot, got ", capacity);
  const Dims of_picks = {batch, seq, {"pick", picks}};
  return {{of_picks, DType::kF32}, {of_picks, DType::kI32}, {{batch, choice}, DType::kF32}};
}

Gradients grad(const GradArgs& args) {
  const Node& node = args.node;
  return append_gradient(args, route_grad_op(), {node.outputs[0], node.outputs[1], dy_of(args)},
                         {{"choices", args.graph.value(node.inputs[0]).desc.dims.back().extent},
                          {"capacity", node.attrs.integer("capacity")}});
}

// The numbers of the `num_picks` largest of `choices` numbers, the largest first.
template <class T>
void pick_largest(const T* logits, std::int64_t choices, std::int64_t num_picks, std::int64_t* picks) {
  for (std::int64_t p = 0; p < num_picks; ++p) {
    std::int64_t best = -1;
    for (std::int64_t e = 0; e < choices; ++e)
      if (std::find(picks, picks + p, e) == picks + p && (best < 0 || logits[e] > logits[best])) best = e;
    picks[p] = best;
  }
}

// weights[p] = softmax over the picked logits. The first pick is the largest.
template <class T>
void weigh(const T* logits, const std::int64_t* picks, std::int64_t num_picks, T* weights) {
  T sum = 0;
  for (std::int64_t p = 0; p < num_picks; ++p)
    sum += weights[p] = std::exp(logits[picks[p]] - logits[picks[0]]);
  for (std::int64_t p = 0; p < num_picks; ++p) weights[p] /= sum;
}

// One sample, in the order of its tokens. `taken` and `picks`: an entry a choice, and a pick.
template <class T, class Slot>
void route_sample(const T* logits, const Dims& dims, std::int64_t num_picks, std::int64_t capacity,
                  T* weights, Slot* slots, T* load, std::int64_t* taken, std::int64_t* picks) {
  const std::int64_t seq = dims[1].extent, choices = dims[2].extent;
  std::fill(taken, taken + choices, 0);
  for (std::int64_t s = 0; s < seq; ++s, logits += choices, weights += num_picks, slots += num_picks) {
    pick_largest(logits, choices, num_picks, picks);
    weigh(logits, picks, num_picks, weights);
    for (std::int64_t p = 0; p < num_picks; ++p) {
      const std::int64_t place = taken[picks[p]]++;
      slots[p] = static_cast<Slot>(place < capacity ? picks[p] * capacity + place : -1 - picks[p]);
    }
  }
  for (std::int64_t e = 0; e < choices; ++e) load[e] = static_cast<T>(taken[e]) / static_cast<T>(seq);
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const Dims& dims = args.input(0).dims;
  const std::int64_t seq = dims[1].extent, choices = dims[2].extent, picks = picks_of(args);
  std::vector<std::int64_t> taken(static_cast<std::size_t>(choices)), picked(static_cast<std::size_t>(picks));
  for (std::int64_t b = 0; b < dims[0].extent; ++b)
    route_sample(&inputs[0]->data[b * seq * choices], dims, picks, capacity_of(args),
                 &outputs[0].data[b * seq * picks], &outputs[1].data[b * seq * picks],
                 &outputs[2].data[b * choices], taken.data(), picked.data());
}

std::size_t scratch(const KernelNode& node) {
  const Dims& dims = node.input(0).dims;
  return static_cast<std::size_t>(dims[0].extent * (dims[2].extent + picks_of(node))) * sizeof(std::int64_t);
}

Kernel cpu(const KernelNode& node) {
  const Dims dims = node.input(0).dims;
  return parallel_kernel(
      node, dims[0].extent,
      [dims, picks = picks_of(node), capacity = capacity_of(node)](const KernelArgs& k, std::int64_t b) {
        const std::int64_t seq = dims[1].extent, choices = dims[2].extent;
        std::int64_t* taken = static_cast<std::int64_t*>(k.scratch) + b * (choices + picks);
        route_sample(k.input<float>(0) + b * seq * choices, dims, picks, capacity,
                     k.output<float>(0) + b * seq * picks, k.output<std::int32_t>(1) + b * seq * picks,
                     k.output<float>(2) + b * choices, taken, taken + choices);
      });
}

// route_grad(weights, slots, dweights)
std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  TensorDesc dlogits = args.input(0);
  TAKT_REQUIRE(args.input(1).dtype == DType::kI32 && args.input(1).dims == dlogits.dims, "route_grad '",
               args.name, "': slots must be i32 like the weights ", dlogits, ", got ", args.input(1));
  dlogits.dims.back() = {"choice", args.attrs.integer("choices")};
  return {dlogits};
}

template <class T, class Slot>
void route_token_grad(const T* weights, const Slot* slots, const T* dweights, std::int64_t num_picks,
                      std::int64_t choices, std::int64_t capacity, T* dlogits) {
  T sum = 0;
  for (std::int64_t p = 0; p < num_picks; ++p) sum += weights[p] * dweights[p];
  std::fill(dlogits, dlogits + choices, T{0});
  for (std::int64_t p = 0; p < num_picks; ++p) {
    const auto slot = static_cast<std::int64_t>(slots[p]);
    dlogits[slot < 0 ? -1 - slot : slot / capacity] = weights[p] * (dweights[p] - sum);
  }
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t picks = args.input(0).dims.back().extent, choices = args.attrs.integer("choices");
  for (std::int64_t t = 0; t < args.input(0).num_elements() / picks; ++t)
    route_token_grad(&inputs[0]->data[t * picks], &inputs[1]->data[t * picks], &inputs[2]->data[t * picks],
                     picks, choices, capacity_of(args), &outputs[0].data[t * choices]);
}

Kernel cpu_grad(const KernelNode& node) {
  const std::int64_t picks = node.input(0).dims.back().extent;
  return parallel_kernel(node, node.input(0).num_elements() / picks,
                         [picks, choices = node.attrs.integer("choices"), capacity = capacity_of(node)](
                             const KernelArgs& k, std::int64_t t) {
                           route_token_grad(k.input<float>(0) + t * picks,
                                            k.input<std::int32_t>(1) + t * picks,
                                            k.input<float>(2) + t * picks, picks, choices, capacity,
                                            k.output<float>(0) + t * choices);
                         });
}

Sample sample(const std::string& name, std::int64_t picks, std::int64_t capacity) {
  return {.name = name, .build = [=](Graph& g) {
            route(g, g.input("logits", {{{"batch", 4}, {"seq", 8}, {"choice", 4}}}), picks, capacity, "y");
          }};
}

std::vector<Sample> samples() {
  return {sample("two of four experts some of which are full", 2, 3), sample("one with room for all", 1, 8)};
}

}  // namespace

OpDef route_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 5,
          .placement = {.whole = {"seq", "pick"}, .whole_last_of = 0},
          .f32_inputs = {0},
          .reference = reference,
          .cpu = {.prepare = cpu, .scratch_bytes = scratch},
          .samples = samples()};
}

OpDef route_grad_record() {
  return {.infer = infer_grad,
          .flops_per_element = 4,
          .placement = {.whole = {"choice", "pick"}, .linear_in = {{2}}},
          .f32_inputs = {0, 2},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad},
          .samples = with_gradient(samples())};
}

Routes route(Graph& graph, ValueId logits, std::int64_t picks, std::int64_t capacity,
             const std::string& name) {
  const std::vector<ValueId> outputs =
      graph.append(route_op(), {logits}, {{"picks", picks}, {"capacity", capacity}}, name);
  return {.weights = outputs[0], .slots = outputs[1], .load = outputs[2]};
}

}  // namespace takt
