// mixture: a feed-forward layer of experts, of which every token passes through a few.
#pragma once

#include <cstdint>
#include <string>

#include "core/graph/graph.h"

namespace takt {

struct MixtureConfig {
  std::int64_t experts = 8, experts_per_token = 2;
  std::int64_t capacity = 0;    // slots of an expert for one sample
  std::int64_t mlp = 0;         // width of an expert
  double balance = 0, z = 0;    // weights of the router's losses
  double std = 0, std_out = 0;  // of initial weights; of those back into the residual stream
};

struct Mixture {
  ValueId y;            // like x
  ValueId router_loss;  // f32 [batch, seq]
};

// x: [batch, seq, embed]. Parameters are named and laid out as Mixtral's, those of all experts stacked in one.
Mixture build_mixture(Graph& graph, const MixtureConfig& config, ValueId x, const std::string& prefix);

}  // namespace takt
