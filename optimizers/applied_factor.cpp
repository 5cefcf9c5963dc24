// applied_factor: the factor that a step's gradients are multiplied by, or NaN where its update must not be applied.
//
//   failed = failed or not finite(factor) or not finite(loss);   applied = failed ? NaN : factor
//
// Attribute "forgives": `failed` is 0 before, whatever it was.
// Why       a device computes the next step before the host has seen the numbers of this one. `failed` outlives the step, so
//           that nothing is applied after a step that was not: the weights stay those of the step before it.
// Placement whole scalars on every rank, which therefore all decide alike.
#include "optimizers/applied_factor.h"

#include <cmath>
#include <limits>

#include "core/ops/builders.h"
#include "core/ops/cuda_kernels.h"

namespace takt {
namespace {

std::vector<TensorDesc> infer(const OpArgs& args) {
  for (std::size_t i = 0; i < 3; ++i)
    TAKT_REQUIRE(args.input(i) == TensorDesc(), "applied_factor '", args.name, "': wants f32 scalars, got ",
                 args.input(i));
  return {args.input(0), args.input(2)};
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const double factor = inputs[0]->data[0], loss = inputs[1]->data[0];
  const bool failed = (inputs[2]->data[0] != 0 && !args.attrs.flag("forgives")) || !std::isfinite(factor) ||
                      !std::isfinite(loss);
  outputs[0].data[0] = failed ? std::numeric_limits<double>::quiet_NaN() : factor;
  outputs[1].data[0] = failed ? 1 : 0;
}

Kernel cpu(const KernelNode& node) {
  return [forgives = node.attrs.flag("forgives")](const KernelArgs& k) {
    const float factor = k.input<float>(0)[0], loss = k.input<float>(1)[0];
    const bool failed =
        (k.input<float>(2)[0] != 0.0f && !forgives) || !std::isfinite(factor) || !std::isfinite(loss);
    k.output<float>(0)[0] = failed ? std::numeric_limits<float>::quiet_NaN() : factor;
    k.output<float>(1)[0] = failed ? 1.0f : 0.0f;
  };
}

void build_sample(Graph& g) {
  applied_factor(g, g.input("factor", {}), g.input("loss", {}), fill(g, {}, 0, "failed"), false, "applied");
}

}  // namespace

const OpDef& applied_factor_op() {
  static const OpDef op = {.name = "applied_factor",
                           .infer = infer,
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(applied_factor),
                           .in_place = {{1, 2}},
                           .samples = {{.name = "nothing has failed", .build = build_sample}}};
  return op;
}

ValueId applied_factor(Graph& graph, ValueId factor, ValueId loss, ValueId failed, bool forgives,
                       const std::string& name) {
  return graph.append(applied_factor_op(), {factor, loss, failed}, {{"forgives", forgives}}, name)[0];
}

}  // namespace takt
