// lamb: Adam's direction, with a step for each tensor that is a fraction of the tensor's norm
//
//   lamb_direction   g = factor grad;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//                    u = m c1 / (sqrt(v c2) + eps) + decay p,   c = 1 / (1 - beta^t) from the host
//   lamb             p = p - lr trust u,   trust = |p| / |u|, or 1 where either norm is 0
//
// The norms are those of the whole tensor: sums of squares in the graph, which over shards are partial sums that are
// reduced as any other, both norms of a tensor in one call. phi of the paper is the identity.
// An update whose factor is not finite leaves everything as it was.
// Source    You et al. 2019, arXiv:1904.00962, algorithm 2. Not to adapt norms and biases is the custom.
#include "optimizers/lamb.h"

#include <algorithm>
#include <cmath>

#include "core/ops/builders.h"
#include "core/ops/cuda_kernels.h"
#include "core/ops/op_cost.h"
#include "core/ops/parallel_for.h"
#include "optimizers/adam_constants.h"

namespace takt {
namespace {

void require_alike(const OpArgs& args, std::size_t num_tensors) {
  for (std::size_t i = 0; i < num_tensors; ++i)
    TAKT_REQUIRE(args.input(i) == args.input(0), args.name, ": parameter, gradient and state differ, ",
                 args.input(0), " and ", args.input(i));
}

std::vector<TensorDesc> infer_direction(const OpArgs& args) {
  require_alike(args, 4);
  return std::vector<TensorDesc>(3, args.input(0));
}

void reference_direction(const OpArgs& args, std::span<const Array* const> in, std::span<Array> out) {
  const AdamConstants c(args);
  const std::vector<double>& hyper = in[4]->data;
  for (std::size_t i = 0; i < out[0].data.size(); ++i) {
    const double g = in[5]->data[0] * in[1]->data[i], m = c.beta1 * in[2]->data[i] + (1 - c.beta1) * g,
                 v = c.beta2 * in[3]->data[i] + (1 - c.beta2) * g * g;
    out[0].data[i] = m * hyper[1] / (std::sqrt(v * hyper[2]) + c.eps) + c.decay * in[0]->data[i];
    out[1].data[i] = m;
    out[2].data[i] = v;
  }
}

Kernel cpu_direction(const KernelNode& node) {
  const AdamConstants c(node);
  const auto beta1 = static_cast<float>(c.beta1), beta2 = static_cast<float>(c.beta2),
             eps = static_cast<float>(c.eps), decay = static_cast<float>(c.decay);
  return [=, n = node.input(0).num_elements(), threads = node.num_threads](const KernelArgs& k) {
    const float c1 = k.input<float>(4)[1], c2 = k.input<float>(4)[2], factor = k.input<float>(5)[0];
    const float *p = k.input<float>(0), *grad = k.input<float>(1);
    float *u = k.output<float>(0), *m = k.output<float>(1), *v = k.output<float>(2);
    if (!std::isfinite(factor)) {
      std::fill_n(u, n, 0.0f);
      return;
    }
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const float g = factor * grad[i];
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        u[i] = m[i] * c1 / (std::sqrt(v[i] * c2) + eps) + decay * p[i];
      }
    });
  };
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  require_alike(args, 2);
  TAKT_REQUIRE(args.input(2).num_elements() == 2, args.name, ": wants the squares of two norms, got ",
               args.input(2));
  return {args.input(0)};
}

// Of the squared norms of parameter and direction.
double trust_of(double parameter, double direction) {
  return parameter > 0 && direction > 0 ? std::sqrt(parameter / direction) : 1.0;
}

void reference(const OpArgs&, std::span<const Array* const> in, std::span<Array> out) {
  const double step = in[3]->data[0] * trust_of(in[2]->data[0], in[2]->data[1]);
  for (std::size_t i = 0; i < out[0].data.size(); ++i)
    out[0].data[i] = in[0]->data[i] - step * in[1]->data[i];
}

Kernel cpu(const KernelNode& node) {
  return [n = node.input(0).num_elements(), threads = node.num_threads](const KernelArgs& k) {
    const float *squares = k.input<float>(2), lr = k.input<float>(3)[0];
    if (!std::isfinite(k.input<float>(4)[0])) return;
    const float step =
        lr * static_cast<float>(trust_of(static_cast<double>(squares[0]), static_cast<double>(squares[1])));
    const float* u = k.input<float>(1);
    float* p = k.output<float>(0);
    parallel_blocks(threads, n, [=](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) p[i] -= step * u[i];
    });
  };
}

const TensorDesc kSample{{{"embed", 4}, {"mlp", 8}}, DType::kF32};

void build_direction(Graph& g) {
  const ValueId p = g.input("p", kSample), grad = g.input("grad", kSample), m = g.input("m", kSample);
  const ValueId v = softmax(g, g.input("x", kSample), "v");  // second moments are positive
  const ValueId hyper = softmax(g, g.input("y", {{{"hyper", 3}}, DType::kF32}), "hyper");
  g.append(lamb_direction_op(), {p, grad, m, v, hyper, g.input("factor", {})},
           {{"beta1", 0.9}, {"beta2", 0.95}, {"eps", 1e-8}, {"decay", 0.1}}, "direction");
}

void build_update(Graph& g) {
  const ValueId p = g.input("p", kSample), u = g.input("u", kSample);
  const ValueId squares = softmax(g, g.input("x", {{{"norm", 2}}, DType::kF32}), "squares");
  const ValueId hyper = g.input("hyper", {{{"hyper", 3}}, DType::kF32});
  g.append(lamb_op(), {p, u, squares, hyper, g.input("factor", {})}, {}, "update");
}

}  // namespace

const OpDef& lamb_direction_op() {
  static const OpDef op = {.name = "lamb_direction",
                           .infer = infer_direction,
                           .flops_per_element = 14,
                           .placement = {.whole = {"hyper"}},
                           .reference = reference_direction,
                           .cpu = {.prepare = cpu_direction},
                           .cuda = TAKT_CUDA_KERNEL(lamb_direction),
                           .in_place = {{1, 2}, {2, 3}},
                           .samples = {{.name = "one step", .build = build_direction}}};
  return op;
}

const OpDef& lamb_op() {
  static const OpDef op = {.name = "lamb",
                           .infer = infer,
                           .flops_per_element = 2,
                           .placement = {.whole = {"hyper", "norm"}},
                           .reference = reference,
                           .cpu = {.prepare = cpu},
                           .cuda = TAKT_CUDA_KERNEL(lamb),
                           .in_place = {{0, 0}},
                           .samples = {{.name = "one step", .build = build_update}}};
  return op;
}

bool lamb_takes(const Graph& graph, const UpdateInputs& parameter) {
  return graph.value(parameter.parameter).parameter->decays;
}

void append_lamb(Graph& graph, const OptimizerConfig& config, std::span<const UpdateInputs> parameters) {
  for (const UpdateInputs& in : parameters) {
    const std::string name = graph.value(in.parameter).name;
    const ValueId direction =
        graph
            .append(lamb_direction_op(),
                    {in.parameter, in.gradient, in.state[0], in.state[1], in.hyper, in.factor},
                    {{"beta1", config.betas[0]},
                     {"beta2", config.betas[1]},
                     {"eps", config.eps},
                     {"decay", decay_of(graph, config, in.parameter)}},
                    "direction." + name)
            .front();
    const ValueId squares = stack(graph,
                                  {sum_squares(graph, in.parameter, "square." + name),
                                   sum_squares(graph, direction, "direction.square." + name)},
                                  "norm", 0, "norms.square." + name);
    graph.append(lamb_op(), {in.parameter, direction, squares, in.hyper, in.factor}, {}, "update." + name);
  }
}

}  // namespace takt
