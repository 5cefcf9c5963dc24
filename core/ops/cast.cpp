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

constexpr auto kSame = [](float x) { return x; };
constexpr auto kReference = [](double x) { return x; };

Sample sample_of(DType from, DType to) {
  return sample(concat(from, " to ", to), {{"x", {{{"batch", 4}, {"embed", 8}}, from}}},
                [to](Graph& g, const auto& in) { cast(g, in[0], to, "y"); });
}

}  // namespace

OpDef cast_record() {
  return {.infer = infer,
          .grad = grad,
          .placement = {.linear_in = {{0}}},
          .reference = elementwise_reference<1, kReference>,
          .cpu = {.prepare = elementwise_cpu<1, kSame>, .bf16 = true},
          .samples = {sample_of(DType::kF32, DType::kBF16), sample_of(DType::kBF16, DType::kF32)}};
}

ValueId cast(Graph& graph, ValueId x, DType to, const std::string& name) {
  return graph.append_one(cast_op(), {x}, {{"to", to}}, name);
}

}  // namespace takt
