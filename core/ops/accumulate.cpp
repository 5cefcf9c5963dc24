// accumulate: buffer += x, in the buffer's storage
//
// Placement whatever x has, partial included: the sum over ranks is taken once a step, not once a
// micro-batch. Cost      one FLOP an element. Memory bound.
#include "core/ops/builders.h"

#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  TAKT_REQUIRE(args.input(0) == args.input(1), "accumulate '", args.name, "': buffer is ", args.input(0),
               ", x is ", args.input(1));
  return {args.input(0)};
}

Cost cost(const OpArgs& args) {
  return cost_an_element(args, 1.0);
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  std::vector<OpPlacement> signatures = batch_rules(args, {});
  signatures.push_back(linear_rule(args, {0, 1}));
  return signatures;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = inputs[0]->data[i] + inputs[1]->data[i];
}

Kernel cpu(const KernelNode& node) {
  return [n = node.input(0).num_elements(), threads = node.num_threads](const KernelArgs& k) {
    const float* x = k.input<float>(1);
    float* buffer = k.output<float>(0);
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) buffer[i] += x[i];
    });
  };
}

}  // namespace

const OpDef& accumulate_op() {
  static const OpDef op = {.name = "accumulate",
                           .infer = infer,
                           .cost = cost,
                           .placements = placements,
                           .reference = reference,
                           .cpu = {cpu},
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
