// mlp: a residual multilayer perceptron from one vector to another.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/setting.h"
#include "core/graph/graph.h"

namespace takt {

struct MlpConfig {
  std::int64_t inputs = 0;   // elements of an input
  std::int64_t outputs = 0;  // and of an output
  std::int64_t layers = 4;   // blocks of the residual stream
  std::int64_t embed = 256;  // its width
  std::int64_t mlp = 0;      // width inside a block; 0: 4 embed
  double norm_eps = 1e-5;
};

// The keys of [model] that it reads, and the config they say, but for inputs and outputs.
const std::vector<Setting>& mlp_settings();
MlpConfig mlp_config(const Settings& settings);

// Fills in what is left open and checks the extents. Throws kConfig.
MlpConfig complete_mlp(MlpConfig config);

// x: f32 [batch, input]. Returns f32 [batch, output].
ValueId build_mlp(Graph& graph, const MlpConfig& config, ValueId x);

}  // namespace takt
