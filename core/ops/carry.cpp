// carry: to += from, from = 0: both in place. How sums over micro-batches move up a level, see core/passes/sum_levels.h.
//
// Placement any axis sharded, and partial sums.
// Cost      one FLOP an element. Memory bound.
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  infer_alike(args);
  return args.inputs;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = inputs[0]->data[i] + inputs[1]->data[i];
}

Kernel cpu(const KernelNode& node) {
  return elementwise_kernel<2, 2>(node, [](float to, float from) { return std::array{to + from, 0.0f}; });
}

void build_sample(Graph& g) {
  const TensorDesc desc{{{"batch", 4}, {"embed", 8}}};
  const ValueId to = g.input("to", desc);
  carry(g, to, g.input("from", desc), "y");
}

}  // namespace

const OpDef& carry_op() {
  static const OpDef op = {.name = "carry",
                           .infer = infer,
                           .flops_per_element = 1,
                           .placement = {.linear_in = {{PlacementRule::kAll}}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .in_place = {{0, 0}, {1, 1}},
                           .samples = {{.name = "4 x 8", .build = build_sample}}};
  return op;
}

void carry(Graph& graph, ValueId to, ValueId from, const std::string& name) {
  graph.append(carry_op(), {to, from}, {}, name);
}

}  // namespace takt
