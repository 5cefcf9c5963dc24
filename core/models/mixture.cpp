// mixture: y[t] = sum over the picked experts e of w[t, e] W2_e (silu(W1_e x[t]) * W3_e x[t])
//
// A router picks experts for each token (core/ops/route.cpp); tokens go into slots [expert, batch, slot, embed], pass through
// their expert, a stacked product, and come back as weighted sums. Nothing here is about ranks: where the mesh axis `expert`
// cuts both samples and experts, slots go from S(batch) to S(expert) before the experts and back behind them, and those
// conversions are the all-to-alls of expert parallelism (Lepikhin et al. 2020, arXiv:2006.16668).
//
// The router's choices have an axis of their own, `choice`: every rank needs them all.
#include "core/models/mixture.h"

#include "core/ops/builders.h"

namespace takt {
namespace {

using Init = ParameterInfo::Init;

ValueId expert_weights(Graph& graph, const std::string& name, Dims dims, double std) {
  return graph.parameter(name, {std::move(dims), DType::kF32}, {.init = Init::kNormal, .std = std});
}

ValueId run_experts(Graph& graph, const MixtureConfig& config, ValueId x, const std::string& prefix) {
  const Dim expert{"expert", config.experts}, mlp{"mlp", config.mlp},
      embed{"embed", graph.value(x).desc.extent("embed")};
  const auto widen = [&](const std::string& name) {
    const ValueId w =
        expert_weights(graph, prefix + "experts.*." + name + ".weight", {expert, mlp, embed}, config.std);
    return matmul(graph, x, w, {"expert", "batch", "slot", "mlp"}, prefix + name);
  };
  const ValueId gate = widen("w1"), up = widen("w3");
  const ValueId h = gated_silu(graph, gate, up, prefix + "gated");
  const ValueId down =
      expert_weights(graph, prefix + "experts.*.w2.weight", {expert, embed, mlp}, config.std_out);
  return matmul(graph, h, down, {"expert", "batch", "slot", "embed"}, prefix + "w2");
}

}  // namespace

Mixture build_mixture(Graph& graph, const MixtureConfig& config, ValueId x, const std::string& prefix) {
  const Dim embed{"embed", graph.value(x).desc.extent("embed")};
  const ValueId gate =
      graph.parameter(prefix + "gate.weight", {{{"choice", config.experts}, embed}, DType::kF32},
                      {.init = Init::kNormal, .std = config.std});
  const ValueId logits =
      matmul(graph, x, gate, {"batch", "seq", "choice"}, prefix + "gate", {.out_dtype = DType::kF32});
  const Routes routes = route(graph, logits, config.experts_per_token, config.capacity, prefix + "route");
  const ValueId loss =
      router_loss(graph, logits, routes.load, config.balance, config.z, prefix + "router_loss");
  const ValueId slots =
      dispatch(graph, x, routes.slots, config.experts, config.capacity, prefix + "dispatch");
  const ValueId y = run_experts(graph, config, slots, prefix);
  return {.y = combine(graph, y, routes.slots, routes.weights, prefix + "combine"), .router_loss = loss};
}

}  // namespace takt
