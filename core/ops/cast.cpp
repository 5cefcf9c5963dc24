// cast: y = x, as f32 or bf16, rounded to nearest even
//
// Gradient  dy cast back; passed on as it is where it has x's dtype already.
// Placement elementwise; linear, up to the rounding of each summand.
// Cost      no arithmetic to speak of. Memory bound.
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  const DType from = args.input(0).dtype, to = args.attrs.dtype("to");
  for (const DType dtype : {from, to})
    TAKT_REQUIRE(dtype == DType::kF32 || dtype == DType::kBF16, "cast '", args.name, "': from ", from, " to ",
                 to, "; only f32 and bf16 are cast");
  return {{args.input(0).dims, to}};
}

Gradients grad(const GradArgs& args) {
  const DType from = args.graph.value(args.node.inputs[0]).desc.dtype;
  if (args.graph.value(dy_of(args)).desc.dtype == from) return {dy_of(args)};
  return {cast(args.graph, dy_of(args), from, "d." + args.node.name)};
}

void reference(const OpArgs&, std::span<const Array* const> inputs, std::span<Array> outputs) {
  outputs[0].data = inputs[0]->data;
}

Kernel cpu(const KernelNode& node) {
  return elementwise_kernel<1>(node, [](float x) { return x; });
}

Sample sample(DType from, DType to) {
  return {.name = concat(from, " to ", to), .build = [=](Graph& g) {
            cast(g, g.input("x", {{{"batch", 4}, {"embed", 8}}, from}), to, "y");
          }};
}

}  // namespace

const OpDef& cast_op() {
  static const OpDef op = {.name = "cast",
                           .infer = infer,
                           .grad = grad,
                           .placement = {.linear_in = {{0}}},
                           .reference = reference,
                           .cpu = {.prepare = cpu, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(cast),
                           .samples = {sample(DType::kF32, DType::kBF16), sample(DType::kBF16, DType::kF32)}};
  return op;
}

ValueId cast(Graph& graph, ValueId x, DType to, const std::string& name) {
  return graph.append_one(cast_op(), {x}, {{"to", to}}, name);
}

}  // namespace takt
