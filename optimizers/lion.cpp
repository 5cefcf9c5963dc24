// lion: the sign of an average of gradients, with decoupled weight decay
//
//   g = factor grad;  p = p - lr ( sign(b1 m + (1 - b1) g) + decay p );  m = b2 m + (1 - b2) g
//
// The sign of zero is zero, so that rows of a table that were never read, and padding, stay where they are.
// An update whose factor is not finite leaves everything as it was.
// Source    Chen et al. 2023, arXiv:2302.06675, algorithm 2.
#include "optimizers/lion.h"

#include <cmath>

#include "core/ops/cuda_kernels.h"
#include "core/ops/parallel_for.h"
#include "optimizers/elementwise_update.h"

namespace takt {
namespace {

template <class T>
T sign_of(T x) {
  return static_cast<T>((x > 0) - (x < 0));
}

void reference(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const double beta1 = args.attrs.number("beta1"), beta2 = args.attrs.number("beta2"),
               decay = args.attrs.number("decay"), lr = in[3]->data[0], factor = in[4]->data[0];
  for (std::size_t i = 0; i < out[0].data.size(); ++i) {
    const double p = in[0]->data[i], g = factor * in[1]->data[i], m = in[2]->data[i];
    out[0].data[i] = p - lr * (sign_of(beta1 * m + (1 - beta1) * g) + decay * p);
    out[1].data[i] = beta2 * m + (1 - beta2) * g;
  }
}

Kernel cpu(const KernelNode& node) {
  const auto beta1 = static_cast<float>(node.attrs.number("beta1")),
             beta2 = static_cast<float>(node.attrs.number("beta2")),
             decay = static_cast<float>(node.attrs.number("decay"));
  return [=, n = node.input(0).num_elements(), threads = node.num_threads](const KernelArgs& k) {
    const float lr = k.input<float>(3)[0], factor = k.input<float>(4)[0];
    if (!std::isfinite(factor)) return;
    const float* grad = k.input<float>(1);
    float *p = k.output<float>(0), *m = k.output<float>(1);
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const float g = factor * grad[i];
        p[i] -= lr * (sign_of(beta1 * m[i] + (1.0f - beta1) * g) + decay * p[i]);
        m[i] = beta2 * m[i] + (1.0f - beta2) * g;
      }
    });
  };
}

void build_sample(Graph& g) {
  const TensorDesc desc{{{"embed", 4}, {"mlp", 8}}, DType::kF32};
  const ValueId p = g.input("p", desc), grad = g.input("grad", desc), m = g.input("m", desc);
  const ValueId hyper = g.input("hyper", {{{"hyper", 3}}, DType::kF32}), factor = g.input("factor", {});
  g.append(lion_op(), {p, grad, m, hyper, factor}, {{"beta1", 0.9}, {"beta2", 0.99}, {"decay", 0.1}},
           "update");
}

}  // namespace

const OpDef& lion_op() {
  static const OpDef op = {.name = "lion",
                           .infer = infer_elementwise_update,
                           .cost = cost_elementwise_update,
                           .placement = {.whole = {"hyper"}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(lion),
                           .in_place = {{0, 0}, {1, 2}},
                           .samples = {{.name = "one step", .build = build_sample}}};
  return op;
}

void append_lion(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters) {
  for (const UpdateInputs& in : parameters)
    graph.append(lion_op(), {in.parameter, in.gradient, in.state[0], in.hyper, in.factor},
                 {{"beta1", config.lion_betas[0]},
                  {"beta2", config.lion_betas[1]},
                  {"decay", decay_of(graph, config, in.parameter)}},
                 "update." + graph.value(in.parameter).name);
}

}  // namespace takt
