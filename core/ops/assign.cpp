// What is written over a buffer that outlives the program, in the buffer's storage.
//   assign: target = x, how a derived value takes what was computed for it.    accumulate: buffer += x, in f32.
//
// Placement any axis sharded. accumulate: also whatever x has, partial included, as the sum over ranks is taken once a
//           step, not once a micro-batch.
// Cost      one FLOP an element, or none. Memory bound.
#include <cstring>

#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

void reference_assign(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  outputs[0].data = inputs[1]->data;
}

Kernel cpu_assign(const KernelNode& node) {
  return [num_bytes = node.input(0).num_bytes()](const KernelArgs& k) {
    std::memcpy(k.outputs[0], k.inputs[1], num_bytes);
  };
}

void reference_accumulate(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  for (std::size_t i = 0; i < outputs[0].data.size(); ++i)
    outputs[0].data[i] = inputs[0]->data[i] + inputs[1]->data[i];
}

Kernel cpu_accumulate(const KernelNode& node) {
  return elementwise_kernel<2>(node, [](float buffer, float x) { return buffer + x; });
}

Sample sample(ValueId (*writes)(Graph&, ValueId, ValueId, const std::string&)) {
  return {.name = "4 x 8", .build = [writes](Graph& g) {
            const TensorDesc desc{{{"batch", 4}, {"embed", 8}}};
            const ValueId buffer = g.input("buffer", desc);
            writes(g, buffer, g.input("x", desc), "y");
          }};
}

}  // namespace

const OpDef& assign_op() {
  static const OpDef op = {.name = "assign",
                           .infer = infer_alike,
                           .reference = reference_assign,
                           .cpu = {.prepare = cpu_assign, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(assign),
                           .in_place = {{0, 0}},
                           .samples = {sample(assign)}};
  return op;
}

const OpDef& accumulate_op() {
  static const OpDef op = {.name = "accumulate",
                           .infer = infer_alike,
                           .flops_per_element = 1,
                           .placement = {.linear_in = {{0, 1}}},
                           .reference = reference_accumulate,
                           .cpu = {.prepare = cpu_accumulate},
                           .cuda = TAKT_CUDA_KERNEL(accumulate),
                           .in_place = {{0, 0}},
                           .defers_reduction = true,
                           .samples = {sample(accumulate)}};
  return op;
}

ValueId assign(Graph& graph, ValueId target, ValueId x, const std::string& name) {
  return graph.append_one(assign_op(), {target, x}, {}, name);
}

ValueId accumulate(Graph& graph, ValueId buffer, ValueId x, const std::string& name) {
  return graph.append_one(accumulate_op(), {buffer, x}, {}, name);
}

}  // namespace takt
