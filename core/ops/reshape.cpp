// reshape: y = x, element by element in row-major order, with other axes
//
// Axes are renamed (same extent), split, or merged.
// Gradient  the reshape back.
// Placement an axis may be sharded if the axes in front of it hold equally many elements before and after, and it
//           is itself the same, renamed, or the leading one of a split or merged run. Linear.
// Cost      a copy, or nothing where the memory plan lets y overwrite x.
#include <cstring>

#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  const Dims& dims = args.attrs.dims("dims");
  TAKT_REQUIRE(num_elements(dims) == args.input(0).num_elements(), "reshape '", args.name, "': x is ",
               args.input(0), ", which does not fit ", to_string(dims));
  return {{dims, args.input(0).dtype}};
}

Gradients grad(const GradArgs& args) {
  return {reshape(args.graph, dy_of(args), args.graph.value(args.node.inputs[0]).desc.dims,
                  "d." + args.node.name)};
}

// Pairs of axes (one of x, one of y) that start at the same element stride from the front.
std::vector<OpPlacement> placements(const OpArgs& args) {
  std::vector<OpPlacement> signatures = {replicated_rule(args), linear_rule(args, {0})};
  std::int64_t before_x = 1;
  for (const Dim& x : args.input(0).dims) {
    std::int64_t before_y = 1;
    for (const Dim& y : args.output(0).dims) {
      if (before_x == before_y && x.extent > 1 && y.extent > 1 &&
          (x.extent % y.extent == 0 || y.extent % x.extent == 0))
        signatures.push_back({{AxisPlacement::sharded(x.axis)}, {AxisPlacement::sharded(y.axis)}});
      before_y *= y.extent;
    }
    before_x *= x.extent;
  }
  return signatures;
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  outputs[0].data = inputs[0]->data;
}

Kernel cpu(const KernelNode& node) {
  return [n = node.input(0).num_bytes()](const KernelArgs& k) {
    if (k.inputs[0] != k.outputs[0]) std::memcpy(k.outputs[0], k.inputs[0], n);
  };
}

Sample sample_of(const std::string& name, const Dims& dims) {
  return sample(name, {{"x", {{{"batch", 4}, {"seq", 2}, {"embed", 8}}}}},
                [dims](Graph& g, const auto& in) { reshape(g, in[0], dims, "y"); });
}

}  // namespace

OpDef reshape_record() {
  return {.infer = infer,
          .grad = grad,
          .placements = placements,
          .reference = reference,
          .cpu = {.prepare = cpu, .bf16 = true},
          .may_overwrite_input = true,
          .samples = {sample_of("split", {{"batch", 4}, {"seq", 2}, {"heads", 4}, {"head_dim", 2}}),
                      sample_of("merge", {{"tokens", 8}, {"embed", 8}}),
                      sample_of("rename", {{"batch", 4}, {"seq", 2}, {"mlp", 8}})}};
}

ValueId reshape(Graph& graph, ValueId x, const Dims& dims, const std::string& name) {
  return graph.append_one(reshape_op(), {x}, {{"dims", dims}}, name);
}

ValueId rename(Graph& graph, ValueId x, const Axis& from, const Axis& to, const std::string& name) {
  Dims dims = graph.value(x).desc.dims;
  const int i = find_axis(dims, from);
  TAKT_REQUIRE(i >= 0, "rename '", name, "': x ", graph.value(x).desc, " has no axis '", from, "'");
  dims[static_cast<std::size_t>(i)].axis = to;
  return reshape(graph, x, dims, name);
}

}  // namespace takt
