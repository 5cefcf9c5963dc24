// The list of optimizers: a new one is its own file and one line here.
#include <array>
#include <cmath>

#include "optimizers/adamw.h"
#include "optimizers/schedule.h"
#include "optimizers/sgd.h"

namespace takt {

std::span<const OptimizerDef> optimizer_registry() {
  static const std::array<OptimizerDef, 2> optimizers = {{
      {"adamw", {"betas", "eps"}, {"adamw_m", "adamw_v"}, append_adamw, adamw_op, adamw_with_copy_op},
      {"sgd", {"momentum"}, {"sgd_momentum"}, append_sgd, sgd_op, sgd_with_copy_op},
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
