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

constexpr auto kAssignReference = [](double, double x) { return x; };

Kernel cpu_assign(const KernelNode& node) {
  return [num_bytes = node.input(0).num_bytes()](const KernelArgs& k) {
    std::memcpy(k.outputs[0], k.inputs[1], num_bytes);
  };
}

constexpr auto kSum = [](float buffer, float x) { return buffer + x; };
constexpr auto kSumReference = [](double buffer, double x) { return buffer + x; };

const TensorDesc kDesc{{{"batch", 4}, {"embed", 8}}};

Sample sample_of(ValueId (*writes)(Graph&, ValueId, ValueId, const std::string&)) {
  return sample("4 x 8", {{"buffer", kDesc}, {"x", kDesc}},
                [writes](Graph& g, const auto& in) { writes(g, in[0], in[1], "y"); });
}

}  // namespace

OpDef assign_record() {
  return {.infer = infer_alike,
          .reference = elementwise_reference<2, kAssignReference>,
          .cpu = {.prepare = cpu_assign, .bf16 = true},
          .in_place = {{0, 0}},
          .samples = {sample_of(assign)}};
}

OpDef accumulate_record() {
  return {.infer = infer_alike,
          .flops_per_element = 1,
          .placement = {.linear_in = {{0, 1}}},
          .reference = elementwise_reference<2, kSumReference>,
          .cpu = {.prepare = elementwise_cpu<2, kSum>},
          .in_place = {{0, 0}},
          .defers_reduction = true,
          .samples = {sample_of(accumulate)}};
}

ValueId assign(Graph& graph, ValueId target, ValueId x, const std::string& name) {
  return graph.append_one(assign_op(), {target, x}, {}, name);
}

ValueId accumulate(Graph& graph, ValueId buffer, ValueId x, const std::string& name) {
  return graph.append_one(accumulate_op(), {buffer, x}, {}, name);
}

}  // namespace takt
