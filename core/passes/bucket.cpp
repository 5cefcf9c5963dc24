// bucket: one long message costs less than many short ones, and the gradients are complete when the update
// begins.
#include "core/passes/bucket.h"

#include <algorithm>
#include <map>

#include "core/graph/rewriter.h"
#include "core/ops/builders.h"

namespace takt {
namespace {

// By value: does it lie in an accumulator, as it was when the program started or after a sum into it?
std::vector<bool> find_accumulated(const Graph& graph) {
  std::vector<bool> accumulated;
  for (const Value& value : graph.values()) accumulated.push_back(value.role == Role::kAccumulator);
  for (const Node& node : graph.nodes())
    for (const auto& [output, input] : node.op->in_place)
      if (accumulated[static_cast<std::size_t>(node.inputs[static_cast<std::size_t>(input)].index)])
        accumulated[static_cast<std::size_t>(node.outputs[static_cast<std::size_t>(output)].index)] = true;
  return accumulated;
}

// Members must overwrite their accumulators, which then lie side by side: nobody else may read those.
bool is_bucketable(const Graph& graph, const Node& node, const std::vector<bool>& accumulated,
                   const Users& users) {
  return node.op == &all_reduce_op() && node.inputs.size() == 1 &&
         accumulated[static_cast<std::size_t>(node.inputs[0].index)] &&
         graph.value(node.inputs[0]).desc.num_elements() > 1 && users.of(node.inputs[0]).size() == 1;
}

// For every node the number of its bucket, or -1.
std::vector<int> assign_buckets(const Graph& graph, std::size_t bucket_bytes) {
  std::vector<int> bucket_of(graph.nodes().size(), -1);
  struct Open {
    int number;
    std::size_t num_bytes;
  };
  std::map<std::string, Open> open;  // by mesh axis and operation
  int num_buckets = 0;
  const Users users(graph);
  const std::vector<bool> accumulated = find_accumulated(graph);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (!is_bucketable(graph, node, accumulated, users)) continue;
    const std::size_t num_bytes = graph.value(node.inputs[0]).desc.num_bytes();
    const std::string key = to_string(node.mesh_axes) + "/" + node.attrs.text("op");
    const auto found = open.find(key);
    if (found == open.end() || found->second.num_bytes + num_bytes > bucket_bytes)
      open[key] = {num_buckets++, 0};
    open[key].num_bytes += num_bytes;
    bucket_of[i] = open[key].number;
  }
  return bucket_of;
}

}  // namespace

std::size_t default_bucket_bytes(int num_ranks) {
  const std::size_t num_elements =
      std::max<std::size_t>(40'000'000, 1'000'000 * static_cast<std::size_t>(num_ranks));
  return 4 * num_elements;
}

Graph bucket_all_reduces(Graph graph, std::size_t bucket_bytes) {
  const std::vector<int> bucket_of = assign_buckets(graph, bucket_bytes);
  std::map<int, std::vector<const Node*>> members;
  for (std::size_t i = 0; i < bucket_of.size(); ++i)
    if (bucket_of[i] >= 0) members[bucket_of[i]].push_back(&graph.nodes()[i]);
  if (members.empty()) return graph;

  Rewriter rewriter(graph);
  for (std::size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (bucket_of[i] < 0) {
      rewriter.copy(node);
      continue;
    }
    const std::vector<const Node*>& bucket = members[bucket_of[i]];
    if (bucket.front() != &node) continue;  // went with the first of its bucket
    Node joined = node;
    std::vector<ValueId> outputs = node.outputs;
    for (std::size_t k = 1; k < bucket.size(); ++k) {
      joined.inputs.push_back(bucket[k]->inputs[0]);
      outputs.push_back(bucket[k]->outputs[0]);
    }
    joined.name = "bucket " + std::to_string(bucket_of[i]) + " from '" + node.name + "'";
    rewriter.copy_as(std::move(joined), outputs);
  }
  return std::move(rewriter).finish();
}

}  // namespace takt
