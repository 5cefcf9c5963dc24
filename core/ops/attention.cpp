// attention: y[i] = sum_{j <= i} softmax_j(s q[i].k[j]) v[j],  s = 1 / sqrt(head_dim), for every batch and head
//
// Query head h uses key and value head h / group, group = heads / kv_heads.
// Outputs   y and the row's log-sum-exp [batch, seq, heads], f32, from which the gradient rebuilds any block of scores.
// Memory    scores exist for one block of 64 queries by 64 keys a thread, never for the whole sequence.
// Gradient  with P = exp(s q.k - lse), D[i] = y[i].dy[i]:
//           dv = P^T dy,  dS = P (dy v^T - D),  dq = s dS k,  dk = s dS^T q.
// Placement batch; heads together with kv_heads; or heads alone with k and v whole, when there are too few of them:
//           then dk and dv are partial sums.
// Cost      4 head_dim FLOPs a pair of positions, half of all pairs; 10 in the gradient.
// Source    Dao et al. 2022, arXiv:2205.14135; Ainslie et al. 2023, arXiv:2305.13245.
#include <cmath>
#include <limits>

#include "core/ops/attention_blocks.h"
#include "core/ops/builders.h"
#include "core/ops/elementwise.h"
#include "core/ops/op.h"

namespace takt {
namespace {

double pairs(const TensorDesc& q) {
  const auto seq = static_cast<double>(q.extent("seq"));
  return static_cast<double>(q.num_elements()) / seq * seq * (seq + 1) / 2;  // x head_dim
}

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc &q = args.input(0), &k = args.input(1), &v = args.input(2);
  const auto named = [](const TensorDesc& x, const char* heads) {
    return x.dims.size() == 4 && x.dims[0].axis == "batch" && x.dims[1].axis == "seq" &&
           x.dims[2].axis == heads && x.dims[3].axis == "head_dim";
  };
  TAKT_REQUIRE(named(q, "heads") && named(k, "kv_heads") && k == v, "attention '", args.name,
               "': wants q [batch, seq, heads, head_dim] and k, v [batch, seq, kv_heads, head_dim], got ", q,
               ", ", k, " and ", v);
  TAKT_REQUIRE(q.dims[0] == k.dims[0] && q.dims[1] == k.dims[1] && q.dims[3] == k.dims[3], "attention '",
               args.name, "': batch, seq and head_dim differ, q is ", q, ", k is ", k);
  return {q, {{q.dims[0], q.dims[1], q.dims[2]}, DType::kF32}};
}

std::vector<std::optional<ValueId>> grad(const GradArgs& args) {
  const Node& n = args.node;
  const auto grads = args.graph.append(
      attention_grad_op(),
      {args.output_grads[0].value(), n.inputs[0], n.inputs[1], n.inputs[2], n.outputs[0], n.outputs[1]},
      n.attrs, "d." + n.name);
  return {grads.begin(), grads.end()};
}

Cost cost(const OpArgs& args) {
  return cost_of_traffic(args, 4.0 * pairs(args.input(0)));
}
Cost cost_grad(const OpArgs& args) {
  return cost_of_traffic(args, 10.0 * pairs(args.input(1)));
}

// Heads and kv_heads sharded by the same mesh axis.
OpPlacement heads_together(const OpArgs& args) {
  OpPlacement signature = split_rule(args, "heads");
  const OpPlacement kv = split_rule(args, "kv_heads");
  for (std::size_t i = 0; i < args.inputs.size(); ++i)
    if (args.inputs[i].has("kv_heads")) signature.inputs[i] = kv.inputs[i];
  for (std::size_t i = 0; i < args.outputs.size(); ++i)
    if (args.outputs[i].has("kv_heads")) signature.outputs[i] = kv.outputs[i];
  return signature;
}

std::vector<OpPlacement> placements(const OpArgs& args) {
  return {replicated_rule(args), split_rule(args, "batch"), heads_together(args), split_rule(args, "heads")};
}

struct ReferenceSizes {
  std::int64_t batch, seq, heads, kv_heads, width;
  explicit ReferenceSizes(const TensorDesc& q, const TensorDesc& k)
      : batch(q.extent("batch")),
        seq(q.extent("seq")),
        heads(q.extent("heads")),
        kv_heads(k.extent("kv_heads")),
        width(q.extent("head_dim")) {}
  std::size_t q(std::int64_t b, std::int64_t s, std::int64_t h) const {
    return static_cast<std::size_t>(((b * seq + s) * heads + h) * width);
  }
  std::size_t kv(std::int64_t b, std::int64_t s, std::int64_t h) const {
    return static_cast<std::size_t>(((b * seq + s) * kv_heads + h / (heads / kv_heads)) * width);
  }
};

double dot(const std::vector<double>& a, std::size_t i, const std::vector<double>& b, std::size_t j,
           std::int64_t width) {
  double sum = 0;
  for (std::size_t d = 0; d < static_cast<std::size_t>(width); ++d) sum += a[i + d] * b[j + d];
  return sum;
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const ReferenceSizes z(args.input(0), args.input(1));
  const double scale = 1.0 / std::sqrt(static_cast<double>(z.width));
  for (std::int64_t b = 0; b < z.batch; ++b)
    for (std::int64_t h = 0; h < z.heads; ++h)
      for (std::int64_t i = 0; i < z.seq; ++i) {
        double max = -std::numeric_limits<double>::infinity(), sum = 0;
        std::vector<double> p(static_cast<std::size_t>(i) + 1);
        for (std::int64_t j = 0; j <= i; ++j) {
          p[static_cast<std::size_t>(j)] =
              scale * dot(inputs[0]->data, z.q(b, i, h), inputs[1]->data, z.kv(b, j, h), z.width);
          max = std::max(max, p[static_cast<std::size_t>(j)]);
        }
        for (double& x : p) sum += (x = std::exp(x - max));
        for (std::int64_t j = 0; j <= i; ++j)
          for (std::size_t d = 0; d < static_cast<std::size_t>(z.width); ++d)
            outputs[0].data[z.q(b, i, h) + d] +=
                p[static_cast<std::size_t>(j)] / sum * inputs[2]->data[z.kv(b, j, h) + d];
        outputs[1].data[z.q(b, i, h) / static_cast<std::size_t>(z.width)] = max + std::log(sum);
      }
}

// Inputs dy, q, k, v, y, lse.
std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  return {args.input(1), args.input(2), args.input(3)};
}

std::vector<OpPlacement> placements_grad(const OpArgs& args) {
  std::vector<OpPlacement> signatures = placements(args);
  signatures.push_back(linear_rule(args, {0}));  // y is whole in it, so D = y.dy is linear in dy
  return signatures;
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const ReferenceSizes z(args.input(1), args.input(2));
  const double scale = 1.0 / std::sqrt(static_cast<double>(z.width));
  const std::vector<double>&dy = inputs[0]->data, &q = inputs[1]->data, &k = inputs[2]->data,
        &v = inputs[3]->data, &y = inputs[4]->data;
  for (std::int64_t b = 0; b < z.batch; ++b)
    for (std::int64_t h = 0; h < z.heads; ++h)
      for (std::int64_t i = 0; i < z.seq; ++i) {
        const std::size_t at_i = z.q(b, i, h);
        const double lse = inputs[5]->data[at_i / static_cast<std::size_t>(z.width)],
                     d_i = dot(y, at_i, dy, at_i, z.width);
        for (std::int64_t j = 0; j <= i; ++j) {
          const std::size_t at_j = z.kv(b, j, h);
          const double p = std::exp(scale * dot(q, at_i, k, at_j, z.width) - lse);
          const double ds = p * (dot(dy, at_i, v, at_j, z.width) - d_i) * scale;
          for (std::size_t d = 0; d < static_cast<std::size_t>(z.width); ++d) {
            outputs[0].data[at_i + d] += ds * k[at_j + d];
            outputs[1].data[at_j + d] += ds * q[at_i + d];
            outputs[2].data[at_j + d] += p * dy[at_i + d];
          }
        }
      }
}

Kernel cpu(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return [shape = attention_shape(node, node.input(0), node.input(1)),
            threads = node.num_threads](const KernelArgs& k) {
      attention_forward<T>(shape, {k.input<T>(0), k.input<T>(1), k.input<T>(2)}, k.output<T>(0),
                           k.output<float>(1), static_cast<float*>(k.scratch), threads);
    };
  });
}

std::size_t scratch(const KernelNode& node) {
  const AttentionShape shape = attention_shape(node, node.input(0), node.input(1));
  return attention_scratch_bytes(shape, node.input(0).dtype, false, node.num_threads);
}

Kernel cpu_grad(const KernelNode& node) {
  return with_floating(node.input(0).dtype, [&](auto type) -> Kernel {
    using T = decltype(type);
    return [shape = attention_shape(node, node.input(1), node.input(2)),
            threads = node.num_threads](const KernelArgs& k) {
      attention_backward<T>(shape, {k.input<T>(1), k.input<T>(2), k.input<T>(3)},
                            {k.input<T>(0), k.input<T>(4), k.input<float>(5)},
                            {k.output<T>(0), k.output<T>(1), k.output<T>(2)}, static_cast<float*>(k.scratch),
                            threads);
    };
  });
}

std::size_t scratch_grad(const KernelNode& node) {
  const AttentionShape shape = attention_shape(node, node.input(1), node.input(2));
  return attention_scratch_bytes(shape, node.input(1).dtype, true, node.num_threads);
}

std::vector<Sample> samples(bool with_grad) {
  std::vector<Sample> samples;
  struct Size {
    const char* name;
    std::int64_t seq, kv_heads;
  };
  for (const Size size : {Size{"grouped queries", 5, 2}, Size{"one key head a query head", 5, 4},
                          Size{"several blocks", 70, 4}}) {
    if (size.seq > 64 && !with_grad) continue;
    samples.push_back(
        {.name = size.name, .build = [=](Graph& g) {
           const TensorDesc q_desc{{{"batch", 4}, {"seq", size.seq}, {"heads", 4}, {"head_dim", 6}},
                                   DType::kF32};
           const TensorDesc kv_desc{
               {{"batch", 4}, {"seq", size.seq}, {"kv_heads", size.kv_heads}, {"head_dim", 6}}, DType::kF32};
           const ValueId q = g.input("q", q_desc), k = g.input("k", kv_desc), v = g.input("v", kv_desc);
           const auto y = g.append(attention_op(), {q, k, v}, {}, "y");
           if (with_grad)
             g.append(attention_grad_op(), {g.input("dy", q_desc), q, k, v, y[0], y[1]}, {}, "d");
         }});
  }
  return samples;
}

}  // namespace

const OpDef& attention_op() {
  static const OpDef op = {.name = "attention",
                           .infer = infer,
                           .grad = grad,
                           .cost = cost,
                           .placements = placements,
                           .reference = reference,
                           .cpu = {.prepare = cpu, .scratch_bytes = scratch, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(attention),
                           .samples = samples(false)};
  return op;
}

const OpDef& attention_grad_op() {
  static const OpDef op = {.name = "attention_grad",
                           .infer = infer_grad,
                           .cost = cost_grad,
                           .placements = placements_grad,
                           .f32_inputs = {5},
                           .reference = reference_grad,
                           .cpu = {.prepare = cpu_grad, .scratch_bytes = scratch_grad, .bf16 = true},
                           .cuda = TAKT_CUDA_KERNEL(attention_grad),
                           .samples = samples(true)};
  return op;
}

ValueId attention(Graph& graph, ValueId q, ValueId k, ValueId v, const std::string& name) {
  return graph.append(attention_op(), {q, k, v}, {}, name).front();
}

}  // namespace takt
