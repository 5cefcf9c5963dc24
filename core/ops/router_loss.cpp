// router_loss: y[b, s] = balance E sum_e load[b, e] p[b, s, e] + z lse[b, s]^2
//   p = softmax of logits[b, s, :] over the E choices,  lse = log sum exp of them
//
// Balance   its mean over a sample's tokens is balance E sum_e f_e P_e, where f_e are the picks of expert e over the tokens
//           and P_e its mean probability: least where all experts are picked alike. A sample is balanced by itself, so that
//           the loss does not depend on how samples are spread.
// Gradient  dlogits[e] = dy p_e (balance E (load_e - sum_j load_j p_j) + 2 z lse)  (router_loss_grad). The load, which is a
//           count, passes nothing back.
// Placement samples and tokens stay sharded; the choices are whole.
// Source    balance: Fedus et al. 2021, arXiv:2101.03961, section 2.2; z: Zoph et al. 2022, arXiv:2202.08906, section 3.
#include <algorithm>
#include <cmath>

#include "core/ops/op.h"
#include "core/ops/rows.h"

namespace takt {
namespace {

struct Factors {
  double balance, z;  // balance: times the number of choices
  explicit Factors(const OpArgs& args)
      : balance(args.attrs.number("balance") * static_cast<double>(args.input(0).dims.back().extent)),
        z(args.attrs.number("z")) {}
};

std::vector<TensorDesc> infer(const OpArgs& args) {
  const TensorDesc &logits = args.input(0), &load = args.input(1);
  TAKT_REQUIRE(logits.dims.size() == 3 && logits.dtype == DType::kF32, "router_loss '", args.name,
               "': logits must be f32 [batch, seq, choice], got ", logits);
  TAKT_REQUIRE(load.dims == Dims({logits.dims[0], logits.dims[2]}) && load.dtype == DType::kF32,
               "router_loss '", args.name, "': the load must have samples and choices of the logits ", logits,
               ", got ", load);
  return {without_last(logits)};
}

Gradients grad(const GradArgs& args) {
  const Node& node = args.node;
  return append_gradient(args, router_loss_grad_op(), {node.inputs[0], node.inputs[1], dy_of(args)},
                         node.attrs);
}

// What both need of a token: the probability of a choice is exp(logit - lse).
template <class T>
struct Token {
  T lse, load = 0;  // load: sum_e load_e p_e
  Token(const T* logits, const T* loads, std::int64_t choices) {
    const T max = *std::max_element(logits, logits + choices);
    T sum = 0;
    for (std::int64_t e = 0; e < choices; ++e) sum += std::exp(logits[e] - max);
    lse = max + std::log(sum);
    for (std::int64_t e = 0; e < choices; ++e) load += loads[e] * std::exp(logits[e] - lse);
  }
};

template <class T>
T loss_of(const T* logits, const T* loads, std::int64_t choices, const Factors& factors) {
  const Token<T> token(logits, loads, choices);
  return static_cast<T>(factors.balance) * token.load + static_cast<T>(factors.z) * token.lse * token.lse;
}

template <class T>
void grad_of(const T* logits, const T* loads, T dy, std::int64_t choices, const Factors& factors,
             T* dlogits) {
  const Token<T> token(logits, loads, choices);
  const T of_z = 2 * static_cast<T>(factors.z) * token.lse;
  for (std::int64_t e = 0; e < choices; ++e)
    dlogits[e] = dy * std::exp(logits[e] - token.lse) *
                 (static_cast<T>(factors.balance) * (loads[e] - token.load) + of_z);
}

void reference(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t seq = args.input(0).dims[1].extent, choices = args.input(0).dims[2].extent;
  for (std::size_t t = 0; t < outputs[0].data.size(); ++t)
    outputs[0].data[t] =
        loss_of(&inputs[0]->data[t * choices], &inputs[1]->data[t / seq * choices], choices, Factors(args));
}

Kernel cpu(const KernelNode& node) {
  const std::int64_t seq = node.input(0).dims[1].extent, choices = node.input(0).dims[2].extent;
  return parallel_kernel(
      node, node.output(0).num_elements(), [=, factors = Factors(node)](const KernelArgs& k, std::int64_t t) {
        k.output<float>(0)[t] =
            loss_of(k.input<float>(0) + t * choices, k.input<float>(1) + t / seq * choices, choices, factors);
      });
}

// router_loss_grad(logits, load, dy)
std::vector<TensorDesc> infer_grad(const OpArgs& args) {
  infer(args);
  return {args.input(0)};
}

void reference_grad(const OpArgs& args, std::span<const Array* const> inputs, std::span<Array> outputs) {
  const std::int64_t seq = args.input(0).dims[1].extent, choices = args.input(0).dims[2].extent;
  for (std::size_t t = 0; t < inputs[2]->data.size(); ++t)
    grad_of(&inputs[0]->data[t * choices], &inputs[1]->data[t / seq * choices], inputs[2]->data[t], choices,
            Factors(args), &outputs[0].data[t * choices]);
}

Kernel cpu_grad(const KernelNode& node) {
  const std::int64_t seq = node.input(0).dims[1].extent, choices = node.input(0).dims[2].extent;
  return parallel_kernel(node, node.input(2).num_elements(),
                         [=, factors = Factors(node)](const KernelArgs& k, std::int64_t t) {
                           grad_of(k.input<float>(0) + t * choices, k.input<float>(1) + t / seq * choices,
                                   k.input<float>(2)[t], choices, factors, k.output<float>(0) + t * choices);
                         });
}

void build_sample(Graph& g) {
  const ValueId logits = g.input("logits", {{{"batch", 4}, {"seq", 4}, {"choice", 6}}});
  router_loss(g, logits, route(g, logits, 2, 2, "routes").load, 0.5, 0.3, "y");
}

const Sample kSample{.name = "six choices", .build = build_sample};

}  // namespace

OpDef router_loss_record() {
  return {.infer = infer,
          .grad = grad,
          .flops_per_element = 6,
          .placement = {.whole_last_of = 0},
          .f32_inputs = {0, 1},
          .reference = reference,
          .cpu = {.prepare = cpu},
          .samples = {kSample}};
}

OpDef router_loss_grad_record() {
  return {.infer = infer_grad,
          .flops_per_element = 8,
          .placement = {.whole_last_of = 0, .linear_in = {{2}}},
          .f32_inputs = {0, 1, 2},
          .reference = reference_grad,
          .cpu = {.prepare = cpu_grad},
          .samples = with_gradient({kSample})};
}

ValueId router_loss(Graph& graph, ValueId logits, ValueId load, double balance, double z,
                    const std::string& name) {
  return graph.append_one(router_loss_op(), {logits, load}, {{"balance", balance}, {"z", z}}, name);
}

}  // namespace takt
