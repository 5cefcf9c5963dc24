// A gradient op needs no samples of its own: what its op's gradient rule builds is its only use.
#include "core/ops/samples.h"

#include "core/ops/gradient.h"

namespace takt {

Sample sample(const std::string& name, const std::vector<SampleInput>& inputs, const BuildOfInputs& build,
              std::int64_t index_bound) {
  const auto build_graph = [inputs, build](Graph& g) {
    std::vector<ValueId> ids;
    for (const SampleInput& input : inputs) ids.push_back(g.input(input.name, input.desc));
    build(g, ids);
  };
  return {name, build_graph, index_bound};
}

std::vector<Sample> with_gradient(std::vector<Sample> samples) {
  for (Sample& sample : samples)
    sample.build = [forward = sample.build](Graph& g) {
      forward(g);
      const Node node = g.nodes().back();
      Gradients dy(node.outputs.size());
      dy[0] = g.input("dy", g.value(node.outputs[0]).desc);
      node.op->grad({g, node, dy});
    };
  return samples;
}

}  // namespace takt
