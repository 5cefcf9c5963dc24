// The list of optimizers: a new one is its own file and one entry here.
#include <algorithm>
#include <array>
#include <cmath>

#include "optimizers/adamw.h"
#include "optimizers/lamb.h"
#include "optimizers/lion.h"
#include "optimizers/muon.h"
#include "optimizers/newton_schulz.h"
#include "optimizers/schedule.h"
#include "optimizers/sgd.h"

namespace takt {

std::span<const OptimizerDef> optimizer_registry() {
  static const std::array<OptimizerDef, 5> optimizers = {{
      {"adamw",
       {"betas", "eps"},
       {"adamw_m", "adamw_v"},
       nullptr,
       append_adamw,
       {&adamw_op()},
       &adamw_with_copy_op()},
      {"lamb",
       {"betas", "eps"},
       {"lamb_m", "lamb_v"},
       lamb_takes,
       append_lamb,
       {&lamb_direction_op(), &lamb_op()},
       nullptr},
      {"lion", {"lion_betas"}, {"lion_m"}, nullptr, append_lion, {&lion_op()}, nullptr},
      {"muon",
       {"betas", "eps", "muon_momentum"},
       {"muon_momentum"},
       muon_takes,
       append_muon,
       {&muon_direction_op(), &normalize_matrices_op(), &weighted_sum_op(), &muon_op()},
       nullptr},
      {"sgd", {"momentum"}, {"sgd_momentum"}, nullptr, append_sgd, {&sgd_op()}, &sgd_with_copy_op()},
  }};
  return optimizers;
}

const OptimizerDef& find_optimizer(const std::string& kind) {
  std::string known;
  for (const OptimizerDef& optimizer : optimizer_registry()) {
    if (optimizer.name == kind) return optimizer;
    known += (known.empty() ? "" : ", ") + optimizer.name;
  }
  fail(Fault::kConfig, "optimizer: kind is '", kind, "'; known are ", known);
}

namespace {

void append(Graph& graph, const OptimizerConfig& config, const OptimizerDef& optimizer,
            std::vector<UpdateInputs> parameters) {
  for (UpdateInputs& in : parameters) {
    const Value parameter = graph.value(in.parameter);
    for (const std::string& slot : optimizer.slots)
      in.state.push_back(
          graph.persistent(state_name(slot, parameter.name), parameter.desc, Role::kState, parameter.name));
  }
  optimizer.append(graph, config, parameters);
}

}  // namespace

void append_updates(Graph& graph, const OptimizerConfig& config, std::vector<UpdateInputs> parameters) {
  const OptimizerDef& optimizer = find_optimizer(config.kind);
  const auto others =
      std::stable_partition(parameters.begin(), parameters.end(), [&](const UpdateInputs& parameter) {
        return optimizer.takes == nullptr || optimizer.takes(graph, parameter);
      });
  append(graph, config, optimizer, {parameters.begin(), others});
  append(graph, config, find_optimizer("adamw"), {others, parameters.end()});
}

double decay_of(const Graph& graph, const OptimizerConfig& config, ValueId parameter) {
  return graph.value(parameter).parameter->decays ? config.weight_decay : 0.0;
}

StepHyper hyper_at(const OptimizerConfig& config, std::int64_t step, std::int64_t num_steps) {
  const auto correction = [&](double beta) {
    return static_cast<float>(1.0 / (1.0 - std::pow(beta, static_cast<double>(step))));
  };
  return {static_cast<float>(config.lr * schedule_factor(config.schedule, step, num_steps)),
          correction(config.betas[0]), correction(config.betas[1])};
}

std::string state_name(const std::string& slot, const std::string& parameter) {
  return slot + "." + parameter;
}

}  // namespace takt
