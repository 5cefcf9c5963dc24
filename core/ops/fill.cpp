// fill: y = value, everywhere
//
// Gradient  none: there is no input.    Placement anything.    Cost one write an element.
#include <algorithm>

#include "core/ops/op.h"

namespace takt {
namespace {

void reference(const OpArgs& args, std::span<const Array* const>, std::span<Array> outputs) {
  std::fill(outputs[0].data.begin(), outputs[0].data.end(), args.attrs.number("value"));
}

Kernel cpu(const KernelNode& node) {
  return [value = static_cast<float>(node.attrs.number("value")), n = node.output(0).num_elements()](
             const KernelArgs& k) { std::fill_n(k.output<float>(0), n, value); };
}

const Sample kSample = sample("2.5", {}, [](Graph& g, const auto&) {
  fill(g, {{{"batch", 4}, {"embed", 8}}}, 2.5, "y");
});

}  // namespace

OpDef fill_record() {
  return {.infer = infer_dims, .reference = reference, .cpu = {.prepare = cpu}, .samples = {kSample}};
}

ValueId fill(Graph& graph, const TensorDesc& desc, double value, const std::string& name) {
  TAKT_ASSERT(desc.dtype == DType::kF32, "fill '", name, "': only f32, got ", desc);
  return graph.append_one(fill_op(), {}, {{"dims", desc.dims}, {"value", value}}, name);
}

}  // namespace takt
