// assign: target = x, in the target's storage: how a derived value takes what was computed for it
//
// Placement any axis sharded; the target is overwritten where it lies, so that x comes to it.
// Cost      no arithmetic. Memory bound.
#include <cstring>

#include "core/ops/builders.h"
#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  TAKT_REQUIRE(args.input(0) == args.input(1), "assign '", args.name, "': target is ", args.input(0),
               ", x is ", args.input(1));
  return {args.input(0)};
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  outputs[0].data = inputs[1]->data;
}

Kernel cpu(const KernelNode& node) {
  return [num_bytes = node.input(0).num_bytes()](const KernelArgs& k) {
    std::memcpy(k.outputs[0], k.inputs[1], num_bytes);
  };
}

}  // namespace

const OpDef& assign_op() {
  static const OpDef op = {.name = "assign",
                           .infer = infer,
                           .reference = reference,
                           .cpu = {.prepare = cpu, .bf16 = true},
                           .in_place = {{0, 0}},
                           .samples = {{.name = "4 x 8", .build = [](Graph& g) {
                                          const TensorDesc desc{{{"batch", 4}, {"embed", 8}}, DType::kF32};
                                          const ValueId target = g.input("target", desc);
                                          assign(g, target, g.input("x", desc), "assigned");
                                        }}}};
  return op;
}

ValueId assign(Graph& graph, ValueId target, ValueId x, const std::string& name) {
  return graph.append_one(assign_op(), {target, x}, {}, name);
}

}  // namespace takt
