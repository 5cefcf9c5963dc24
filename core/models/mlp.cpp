// mlp: h += down(gelu(up(norm(h)))), a number of times, between a linear layer that reads and one that writes.
//
// Each block normalises what it reads (Xiong et al. 2020, arXiv:2002.04745), so that depth needs no tuning. Weights start
// normal with variance 1 / inputs (LeCun et al. 1998), the last of a block smaller by the root of the depth.
#include "core/models/mlp.h"

#include <cmath>

#include "core/models/model_settings.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

using Init = ParameterInfo::Init;

ValueId weight(Graph& graph, const std::string& name, const Dim& out, const Dim& in, double scale = 1) {
  return graph.parameter(name, {{out, in}, DType::kF32},
                         {.init = Init::kNormal, .std = scale / std::sqrt(static_cast<double>(in.extent))});
}

ValueId bias(Graph& graph, const std::string& name, const Dim& out) {
  return graph.parameter(name, {{out}, DType::kF32}, {.init = Init::kZeros, .decays = false});
}

// y[batch, out] = x w^T + bias
ValueId linear(Graph& graph, ValueId x, const std::string& name, const Dim& out, const Dim& in,
               double scale = 1, const std::string& activation = "") {
  return matmul(graph, x, weight(graph, name + ".weight", out, in, scale), {"batch", out.axis}, name,
                {.bias = bias(graph, name + ".bias", out), .activation = activation});
}

ValueId norm(Graph& graph, ValueId x, const std::string& name, const Dim& embed, double eps) {
  const ValueId gain =
      graph.parameter(name + ".weight", {{embed}, DType::kF32}, {.init = Init::kOnes, .decays = false});
  return layer_norm(graph, x, gain, bias(graph, name + ".bias", embed), eps, name);
}

}  // namespace

const std::vector<Setting>& mlp_settings() {
  static const std::vector<Setting> settings = {layers_setting(), embed_setting(), mlp_setting(),
                                                norm_eps_setting()};
  return settings;
}

MlpConfig mlp_config(const Settings& settings) {
  return {.layers = settings.whole("model.layers"),
          .embed = settings.whole("model.embed"),
          .mlp = settings.whole("model.mlp"),
          .norm_eps = settings.number("model.norm_eps")};
}

MlpConfig complete_mlp(MlpConfig config) {
  if (config.mlp == 0) config.mlp = 4 * config.embed;
  TAKT_REQUIRE(
      config.inputs > 0 && config.outputs > 0 && config.layers > 0 && config.embed > 0 && config.mlp > 0,
      "model: inputs, outputs, layers, embed and mlp must be positive, got ", config.inputs, ", ",
      config.outputs, ", ", config.layers, ", ", config.embed, " and ", config.mlp);
  return config;
}

ValueId build_mlp(Graph& graph, const MlpConfig& config, ValueId x) {
  const Dim input{"input", config.inputs}, output{"output", config.outputs}, embed{"embed", config.embed},
      mlp{"mlp", config.mlp};
  const double residual_scale = 1 / std::sqrt(2.0 * static_cast<double>(config.layers));
  ValueId h = linear(graph, x, "input", embed, input);
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    const BlockScope block(graph, static_cast<int>(i));
    const ValueId read = norm(graph, h, layer + "norm", embed, config.norm_eps);
    const ValueId inner = linear(graph, read, layer + "up", mlp, embed, 1, "gelu");
    h = add(graph, {h, linear(graph, inner, layer + "down", embed, mlp, residual_scale)}, layer + "residual");
  }
  return linear(graph, norm(graph, h, "norm", embed, config.norm_eps), "output", output, embed);
}

}  // namespace takt
