// How records write their samples.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/graph/graph.h"
#include "core/graph/op.h"

namespace takt {

struct SampleInput {
  std::string name;
  TensorDesc desc;
};
using BuildOfInputs = std::function<void(Graph&, const std::vector<ValueId>& inputs)>;

// What `build` appends, the op last, to a graph with these inputs. i32 ones are drawn from [0, index_bound).
Sample sample(const std::string& name, const std::vector<SampleInput>& inputs, const BuildOfInputs& build,
              std::int64_t index_bound = 1);
// Each sample and then its gradient for a "dy" of output 0: samples of the op that the gradient rule appends.
std::vector<Sample> with_gradient(std::vector<Sample> samples);

}  // namespace takt
