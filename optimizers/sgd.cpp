// sgd: gradient descent with heavy-ball momentum and decoupled weight decay
//
//   u = momentum u + factor grad;   p = p - lr ( u + decay p )
//
// An update whose factor is not finite leaves everything as it was.
// Source    Polyak 1964; Sutskever et al. 2013 (the form without dampening).
#include "optimizers/sgd.h"

#include <cmath>

#include "core/ops/cuda_kernels.h"
#include "core/ops/parallel_for.h"
#include "optimizers/elementwise_update.h"

namespace takt {
namespace {

void reference(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const double momentum = args.attrs.number("momentum"), decay = args.attrs.number("decay"),
               lr = in[3]->data[0];
  for (std::size_t i = 0; i < out[0].data.size(); ++i) {
    const double u = momentum * in[2]->data[i] + in[4]->data[0] * in[1]->data[i];
    out[0].data[i] = in[0]->data[i] - lr * (u + decay * in[0]->data[i]);
    out[1].data[i] = u;
  }
  if (out.size() > 2) out[2].data = out[0].data;
}

Kernel cpu(const KernelNode& node) {
  const auto momentum = static_cast<float>(node.attrs.number("momentum")),
             decay = static_cast<float>(node.attrs.number("decay"));
  return [=, copies = node.outputs.size() > 2, n = node.input(0).num_elements(),
          threads = node.num_threads](const KernelArgs& k) {
    const float lr = k.input<float>(3)[0], factor = k.input<float>(4)[0];
    if (!std::isfinite(factor)) return;
    const float* grad = k.input<float>(1);
    float *p = k.output<float>(0), *u = k.output<float>(1);
    BF16* copy = copies ? k.output<BF16>(2) : nullptr;
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        u[i] = momentum * u[i] + factor * grad[i];
        p[i] -= lr * (u[i] + decay * p[i]);
      }
      write_copy(p, copy, first, last);
    });
  };
}

void build_sample(Graph& g) {
  const TensorDesc desc{{{"embed", 4}, {"mlp", 8}}, DType::kF32};
  const ValueId p = g.input("p", desc), grad = g.input("grad", desc), u = g.input("u", desc);
  const ValueId hyper = g.input("hyper", {{{"hyper", 3}}, DType::kF32}), factor = g.input("factor", {});
  g.append(sgd_op(), {p, grad, u, hyper, factor}, {{"momentum", 0.9}, {"decay", 0.1}}, "update");
}

}  // namespace

const OpDef& sgd_op() {
  static const OpDef op = {.name = "sgd",
                           .infer = infer_elementwise_update,
                           .cost = cost_elementwise_update,
                           .placement = {.whole = {"hyper"}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(sgd),
                           .in_place = {{0, 0}, {1, 2}},
                           .samples = {{.name = "one step", .build = build_sample}}};
  return op;
}

const OpDef& sgd_with_copy_op() {
  static const OpDef op = with_copy(sgd_op());
  return op;
}

void append_sgd(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters) {
  for (const UpdateInputs& in : parameters)
    graph.append(sgd_op(), {in.parameter, in.gradient, in.state[0], in.hyper, in.factor},
                 {{"momentum", config.momentum}, {"decay", decay_of(graph, config, in.parameter)}},
                 "update." + graph.value(in.parameter).name);
}

}  // namespace takt
