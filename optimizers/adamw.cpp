// adamw: Adam with decoupled weight decay
//
//   g = factor grad;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p = p - lr ( m c1 / (sqrt(v c2) + eps) + decay p ),   c = 1 / (1 - beta^t) from the host
//
// An update whose factor is not finite leaves everything as it was: the step is refused before weights change.
// Source    Loshchilov and Hutter 2019, arXiv:1711.05101.
#include "optimizers/adamw.h"

#include <cmath>

#include "core/ops/builders.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/parallel_for.h"
#include "optimizers/adam_constants.h"
#include "optimizers/elementwise_update.h"

namespace takt {
namespace {

void reference(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const AdamConstants c(args);
  const std::vector<double>& hyper = in[4]->data;
  const double factor = in[5]->data[0];
  for (std::size_t i = 0; i < out[0].data.size(); ++i) {
    const double p = in[0]->data[i], g = factor * in[1]->data[i];
    const double m = c.beta1 * in[2]->data[i] + (1 - c.beta1) * g,
                 v = c.beta2 * in[3]->data[i] + (1 - c.beta2) * g * g;
    out[0].data[i] = p - hyper[0] * (m * hyper[1] / (std::sqrt(v * hyper[2]) + c.eps) + c.decay * p);
    out[1].data[i] = m;
    out[2].data[i] = v;
  }
  if (out.size() > 3) out[3].data = out[0].data;
}

Kernel cpu(const KernelNode& node) {
  const AdamConstants c(node);
  const auto beta1 = static_cast<float>(c.beta1), beta2 = static_cast<float>(c.beta2),
             eps = static_cast<float>(c.eps), decay = static_cast<float>(c.decay);
  return [=, copies = node.outputs.size() > 3, n = node.input(0).num_elements(),
          threads = node.num_threads](const KernelArgs& k) {
    const float* hyper = k.input<float>(4);
    const float lr = hyper[0], c1 = hyper[1], c2 = hyper[2], factor = k.input<float>(5)[0];
    if (!std::isfinite(factor)) return;
    const float* grad = k.input<float>(1);
    float *p = k.output<float>(0), *m = k.output<float>(1), *v = k.output<float>(2);
    BF16* copy = copies ? k.output<BF16>(3) : nullptr;
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const float g = factor * grad[i];
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        p[i] -= lr * (m[i] * c1 / (std::sqrt(v[i] * c2) + eps) + decay * p[i]);
      }
      write_copy(p, copy, first, last);
    });
  };
}

void build_sample(Graph& g) {
  const TensorDesc desc{{{"embed", 4}, {"mlp", 8}}, DType::kF32};
  const ValueId p = g.input("p", desc), grad = g.input("grad", desc), m = g.input("m", desc);
  const ValueId v = softmax(g, g.input("x", desc), "v");  // second moments are positive
  const ValueId hyper = softmax(g, g.input("y", {{{"hyper", 3}}, DType::kF32}), "hyper");
  const ValueId factor = g.input("factor", {});
  g.append(adamw_op(), {p, grad, m, v, hyper, factor},
           {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"decay", 0.1}}, "update");
}

}  // namespace

const OpDef& adamw_op() {
  static const OpDef op = {.name = "adamw",
                           .infer = infer_elementwise_update,
                           .cost = cost_elementwise_update,
                           .placement = {.whole = {"hyper"}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(adamw),
                           .in_place = {{0, 0}, {1, 2}, {2, 3}},
                           .samples = {{.name = "one step", .build = build_sample}}};
  return op;
}

const OpDef& adamw_with_copy_op() {
  static const OpDef op = with_copy(adamw_op());
  return op;
}

void append_adamw(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters) {
  for (const UpdateInputs& in : parameters)
    graph.append(adamw_op(), {in.parameter, in.gradient, in.state[0], in.state[1], in.hyper, in.factor},
                 {{"beta1", config.betas[0]},
                  {"beta2", config.betas[1]},
                  {"eps", config.eps},
                  {"decay", decay_of(graph, config, in.parameter)}},
                 "update." + graph.value(in.parameter).name);
}

}  // namespace takt
