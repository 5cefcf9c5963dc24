// attention: y[i] = sum_{j <= i} softmax_j(s q[i].k[j]) v[j],  s = 1 / sqrt(head_dim), for every batch and head
//
// Query head h uses key and value head h / group, group = heads / kv_heads.
// Outputs   y and the row's log-sum-exp [batch, seq, heads], f32, from which the gradient rebuilds any block of scores.
// Memory    scores exist for one block of 64 queries by 64 keys a thread, never for the whole sequence.
// Gradient  with P = exp(s q.k - lse), D[i] = y[i].dy[i]:
//           dv = P^T dy,  dS = P (dy v^T - D),  dq = s dS k,  dk = s dS^T q.
// Placement batch; heads together with kv_heads; or heads alone with k and v whole, when there are too few of them:
//           then dk and dv are partial sums.
// Order     with "ordered" products are those of ordered_product.h, and dk and dv are f32, sums over heads in the pieces of
//           ordered_sum.h: of a key head's query heads a rank may have some.
// Cost      4 head_dim FLOPs a pair of positions, half of all pairs; 10 in the gradient.
// Source    Dao et al. 2022, arXiv:2205.14135; Ainslie et al. 2023, arXiv:2305.13245.
#include <algorithm>
#include <cmath>

#include "core/ops/attention_blocks.h"
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

Gradients grad(const GradArgs& args) {
  const std::vector<ValueId>&in = args.node.inputs, &out = args.node.outputs;
  return append_gradient(args, attention_grad_op(), {dy_of(args), in[0], in[1], in[2], out[0], out[1]});
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

double dot(const double* a, const double* b, std::int64_t width) {
  double sum = 0;
  for (std::int64_t d = 0; d < width; ++d) sum += a[d] * b[d];
  return sum;
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const AttentionShape s = attention_shape(args.input(0), args.input(1));
  const double scale = 1.0 / std::sqrt(static_cast<double>(s.width));
  const double *q = inputs[0]->data.data(), *k = inputs[1]->data.data(), *v = inputs[2]->data.data();
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h)
      for (std::int64_t i = 0; i < s.seq; ++i) {
        const std::int64_t at_i = s.q_at(b, i, h);
        std::vector<double> p(i + 1);
        for (std::int64_t j = 0; j <= i; ++j)
          p[j] = scale * dot(q + at_i, k + s.kv_at(b, j, s.kv_head(h)), s.width);
        const double max = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& x : p) sum += (x = std::exp(x - max));
        for (std::int64_t j = 0; j <= i; ++j)
          for (std::int64_t d = 0; d < s.width; ++d)
            outputs[0].data[at_i + d] += p[j] / sum * v[s.kv_at(b, j, s.kv_head(h)) + d];
        outputs[1].data[at_i / s.width] = max + std::log(sum);
      }
}

// Inputs dy, q, k, v, y, lse.
std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  const bool ordered = args.attrs.flag("ordered");
  const auto of_keys = [&](std::size_t i) {
    return TensorDesc{args.input(i).dims, ordered ? DType::kF32 : args.input(i).dtype};
  };
  return {args.input(1), of_keys(2), of_keys(3)};
}

std::vector<OpPlacement> placements_grad(const OpArgs& args) {
  std::vector<OpPlacement> signatures = placements(args);
  signatures.push_back(linear_rule(args, {0}));  // y is whole in it, so D = y.dy is linear in dy
  return signatures;
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const AttentionShape s = attention_shape(args.input(1), args.input(2));
  const double scale = 1.0 / std::sqrt(static_cast<double>(s.width));
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h)
      for (std::int64_t i = 0; i < s.seq; ++i) {
        const std::int64_t at_i = s.q_at(b, i, h);
        const double *dy = &inputs[0]->data[at_i], *q = &inputs[1]->data[at_i], *y = &inputs[4]->data[at_i];
        const double lse = inputs[5]->data[at_i / s.width], d_i = dot(y, dy, s.width);
        for (std::int64_t j = 0; j <= i; ++j) {
          const std::int64_t at_j = s.kv_at(b, j, s.kv_head(h));
          const double *k = &inputs[2]->data[at_j], *v = &inputs[3]->data[at_j];
          const double p = std::exp(scale * dot(q, k, s.width) - lse);
          const double ds = p * (dot(dy, v, s.width) - d_i) * scale;
          for (std::int64_t d = 0; d < s.width; ++d) {
            outputs[0].data[at_i + d] += ds * k[d];
            outputs[1].data[at_j + d] += ds * q[d];
            outputs[2].data[at_j + d] += p * dy[d];
          }
        }
      }
}

Sample sample_of(const std::string& name, std::int64_t seq, std::int64_t kv_heads) {
  const TensorDesc q{{{"batch", 4}, {"seq", seq}, {"heads", 4}, {"head_dim", 6}}},
      kv{{{"batch", 4}, {"seq", seq}, {"kv_heads", kv_heads}, {"head_dim", 6}}};
  return sample(name, {{"q", q}, {"k", kv}, {"v", kv}},
                [](Graph& g, const auto& in) { attention(g, in[0], in[1], in[2], "y"); });
}

const Sample kGrouped = sample_of("grouped queries", 5, 2),
             kAlone = sample_of("one key head a query head", 5, 4),
             kBlocks =
                 sample_of("several blocks", 70, 4);  // too long for finite differences of the op itself

}  // namespace

OpDef attention_record() {
  return {.infer = infer,
          .grad = grad,
          .cost = cost,
          .placements = placements,
          .reference = reference,
          .cpu = {.prepare = attention_kernel, .scratch_bytes = attention_scratch_bytes, .bf16 = true},
          .samples = {kGrouped, kAlone}};
}

OpDef attention_grad_record() {
  return {
      .infer = infer_grad,
      .cost = cost_grad,
      .placements = placements_grad,
      .f32_inputs = {5},
      .reference = reference_grad,
      .cpu = {.prepare = attention_grad_kernel, .scratch_bytes = attention_grad_scratch_bytes, .bf16 = true},
      .samples = with_gradient({kGrouped, kAlone, kBlocks})};
}

ValueId attention(Graph& graph, ValueId q, ValueId k, ValueId v, const std::string& name) {
  return graph.append(attention_op(), {q, k, v}, {}, name).front();
}

}  // namespace takt
