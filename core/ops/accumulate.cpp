// accumulate: buffer += x, in the buffer's storage, f32
//
// Placement whatever x has, partial included: the sum over ranks is taken once a step, not once a micro-batch.
// Cost      one FLOP an element. Memory bound.
#include "core/ops/builders.h"
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  TAKT_REQUIRE(args.input(0) == args.input(1), "accumulate '", args.name, "': buffer is ", args.input(0),
               ", x is ", args.input(1));
  return {args.input(0)};
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = inputs[0]->data[i] + inputs[1]->data[i];
}

Kernel cpu(const KernelNode& node) {
  return elementwise_kernel<2>(node, [](float buffer, float x) { return buffer + x; });
}

}  // namespace

const OpDef& accumulate_op() {
  static const OpDef op = {.name = "accumulate",
                           .infer = infer,
                           .flops_per_element = 1,
                           .placement = {.linear_in = {{0, 1}}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .in_place = {{0, 0}},
                           .defers_reduction = true,
                           .samples = {{.name = "4 x 8", .build = [](Graph& g) {
                                          const TensorDesc desc{{{"batch", 4}, {"embed", 8}}, DType::kF32};
                                          const ValueId buffer = g.input("buffer", desc);
                                          accumulate(g, buffer, g.input("x", desc), "sum");
                                        }}}};
  return op;
}

ValueId accumulate(Graph& graph, ValueId buffer, ValueId x, const std::string& name) {
  return graph.append_one(accumulate_op(), {buffer, x}, {}, name);
}

}  // namespace takt
